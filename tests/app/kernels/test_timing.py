"""What a kernel costs does not depend on who else computes while it is measured."""

import numpy as np
import pytest

from app.kernels import timing
from app.kernels.timing import measure_cost, median_seconds


class Clocks:
    """The time that passes, and the processor's time of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.used = 0.0
        monkeypatch.setattr(timing, "time", self)

    def perf_counter(self) -> float:
        return self.wall

    def process_time(self) -> float:
        return self.used


class FakeKernel:
    """Needs the processor for 1 ms and 10 us a row and time step; others may have it meanwhile."""

    num_outputs = state_size = 1
    compilations = 0

    def __init__(self, clocks: Clocks, devices: tuple[str, ...] = ("CPU:0",)) -> None:
        self.clocks, self.devices = clocks, devices
        # How much of the processor's time it gets, and how many cores it uses of it.
        self.share = self.cores = 1.0

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        seconds = 1e-3 + 1e-5 * inputs.shape[0] * inputs.shape[1]
        self.clocks.wall += seconds / self.share
        self.clocks.used += seconds * self.cores
        return inputs, state


def test_a_share_of_the_processor_gives_the_cost_of_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = FakeKernel(Clocks(monkeypatch))
    alone = measure_cost(kernel, 1, 8, 32)
    assert alone.row_step_s == pytest.approx(1e-5)
    kernel.share = 0.25
    shared = measure_cost(kernel, 1, 8, 32)
    assert shared.row_step_s == pytest.approx(1e-5)
    assert shared.call_s == pytest.approx(alone.call_s)


@pytest.mark.parametrize(
    ("devices", "cores"),
    [
        # An accelerator computes while the processor has next to nothing to do.
        (("GPU:0",), 0.1),
        # Layers side by side use more of the processor than the time that passes.
        (("CPU:0", "CPU:1"), 2.0),
    ],
)
def test_elsewhere_it_is_the_time_that_passes(
    monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], cores: float
) -> None:
    kernel = FakeKernel(Clocks(monkeypatch), devices)
    kernel.cores = cores
    inputs, lengths = np.zeros((4, 5, 1), np.float32), np.full(4, 5, np.int32)
    seconds = median_seconds(kernel, inputs, lengths, np.zeros((4, 1), np.float32))
    assert seconds == pytest.approx(1.2e-3)


@pytest.mark.parametrize(("devices", "steps"), [(("CPU:0",), 8), (("GPU:0",), 32)])
def test_what_chunks_cost_is_known_in_milliseconds(
    monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], steps: int
) -> None:
    clocks = Clocks(monkeypatch)
    cost = measure_cost(FakeKernel(clocks, devices), 1, 64, 256)
    assert cost.row_step_s == pytest.approx(1e-5)
    # Of each of three chunks one call, and others for 10 ms or until the first of them has ended.
    lone, long, full = (1e-3 + 1e-5 * n for n in (1, steps, 64 * steps))
    assert clocks.wall <= lone + long + full + 2 * (0.01 + long) + max(full, 0.01 + full)
