"""What is told of GPUs, on a machine that has none: TensorFlow and the driver are stood for."""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from model import run, train
from model.network_config import RNNConfig
from model.placement import device_setup, gpus
from model.placement.devices import find_devices, free_bytes, split_devices
from model.placement.plan import PlacementError
from model.train_config import Recipe, TrainConfig
from tests.model.children import run_command

GIB = 1 << 30
RECIPE = Recipe(updates=1, window_steps=72, batch_size=128, average_momentum=0.98)
CARD = "NVIDIA H100 80GB HBM3"


class Driver:
    """NVIDIA's, for one card with so much memory; `fails` names the function that does."""

    def __init__(self, free: int, fails: str = "") -> None:
        self._free, self._fails = free, fails
        self.retained = 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        def function(*arguments: Any) -> int:
            if name == self._fails:
                return 999
            self.retained += (name == "cuDevicePrimaryCtxRetain") - (
                name == "cuDevicePrimaryCtxRelease_v2"
            )
            if name == "cuMemGetInfo_v2":
                arguments[0]._obj.value = self._free
            return 0

        return function


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Driver]:
    """Makes TensorFlow see cards, each split into so many parts, and the driver tell this."""

    def make(*parts: int, free: int = 80 * GIB, fails: str = "") -> Driver:
        physical = [SimpleNamespace(name=f"/physical_device:GPU:{i}") for i in range(len(parts))]
        split: dict[str, list[Any]] = {}
        monkeypatch.setattr(
            tf.config, "list_physical_devices", lambda kind=None: physical if kind == "GPU" else []
        )
        logical = ["CPU:0", *(f"GPU:{i}" for i in range(sum(parts)))]
        monkeypatch.setattr(
            tf.config,
            "list_logical_devices",
            lambda kind=None: [
                SimpleNamespace(name=f"/device:{name}", device_type=name.partition(":")[0])
                for name in logical
            ],
        )
        monkeypatch.setattr(
            tf.config, "get_logical_device_configuration", lambda card: split.get(card.name)
        )
        monkeypatch.setattr(
            tf.config,
            "set_logical_device_configuration",
            lambda card, into: split.__setitem__(card.name, into),
        )
        details = {"device_name": CARD, "compute_capability": (9, 0)}
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda card: details)
        driver = Driver(free, fails)
        monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
        return driver

    return make


def test_a_card_is_split_into_parts_that_share_its_memory(cards: Callable[..., Driver]) -> None:
    driver = cards(2, 2, free=80 * GIB)
    split_devices(2, ("auto",))
    assert find_devices(("auto",)) == ("GPU:0", "GPU:1", "GPU:2", "GPU:3")
    assert free_bytes(("GPU:0", "GPU:3")) == {"GPU:0": 36 * GIB, "GPU:3": 36 * GIB}
    assert driver.retained == 0, "the driver's context is given back each time"
    assert gpus.full_name("GPU:3") == f"GPU:3 ({CARD})"
    assert gpus.full_name("CPU:0") == "CPU:0"


def test_a_whole_card_has_what_the_driver_says_is_free(cards: Callable[..., Driver]) -> None:
    cards(1, 1, free=3 * GIB)
    assert free_bytes(("GPU:1",)) == {"GPU:1": 3 * GIB}


def test_the_cpu_is_split_where_it_is_asked_for(
    cards: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards(1)
    asked: list[int] = []
    monkeypatch.setattr("model.placement.devices.split_cpu", asked.append)
    split_devices(3, ("cpu:0", "/device:CPU:1"))
    assert asked == [3]


def test_a_driver_that_does_not_answer_is_told(cards: Callable[..., Driver]) -> None:
    driver = cards(1, fails="cuMemGetInfo_v2")
    with pytest.raises(PlacementError, match="GPU 0 cannot be used: cuMemGetInfo_v2 gave"):
        free_bytes(("GPU:0",))
    assert driver.retained == 0


def test_a_machine_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(PlacementError, match=r"GPU 0: libcuda\.so\.1 cannot be loaded: libcuda"):
        gpus.free_bytes_of_card(0)


STACK = RNNConfig.model_validate(
    {"layers": [{"cell": "lstm", "units": 100}] * 3, "num_inputs": 8, "num_outputs": 5}
)


def test_what_a_plan_needs_is_told(cards: Callable[..., Driver]) -> None:
    cards(1, free=40 * GIB)
    told = device_setup.memory_table(STACK, RECIPE)
    assert told == f"GPU:0 ({CARD}): takes at least 0.0753 GiB of 40 GiB free"


def test_a_card_that_is_too_full_for_a_plan(cards: Callable[..., Driver]) -> None:
    cards(1, free=GIB // 64)
    with pytest.raises(PlacementError, match=r"GPU:0 has 0\.0156 GiB of memory free, but training"):
        device_setup.place(STACK, RECIPE)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            tf.errors.InternalError(None, None, "CUDA_ERROR_NO_DEVICE: gone\n@ cuda.cc:1"),
            f"GPU:0 ({CARD}) cannot be used: CUDA_ERROR_NO_DEVICE: gone",
        ),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
            f"GPU:0 ({CARD}) has no memory left for a single time step: others use it",
        ),
    ],
    ids=["gone", "full"],
)
def test_a_card_that_has_gone_or_is_full_is_told_before_training(
    cards: Callable[..., Driver],
    monkeypatch: pytest.MonkeyPatch,
    error: tf.errors.OpError,
    told: str,
) -> None:
    cards(1)

    def fail(device: str) -> None:
        raise error

    monkeypatch.setattr(gpus, "_compute_on", fail)
    with pytest.raises(PlacementError) as raised:
        device_setup.place(STACK, RECIPE)
    assert str(raised.value) == told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            tf.errors.ResourceExhaustedError(
                None, None, "OOM on /job:localhost/replica:0/task:0/device:GPU:0 by GPU_0_bfc\nmore"
            ),
            f"error: GPU:0 ({CARD}) has no memory left: lower --batch-size or --window-steps, or "
            "give more devices (OOM on",
        ),
        (
            tf.errors.InternalError(None, None, "Failed to call DoRnnForward\nmore"),
            "error: a device failed: Failed to call DoRnnForward\n",
        ),
        (
            tf.errors.InternalError(
                None,
                None,
                "Graph execution error:\n\nDetected at node CudnnRNNV3 defined at (most recent "
                'call last):\n  File "x.py", line 1, in f\n\n'
                "on device:GPU:0 no room\n\t [[{{node x}}]]",
            ),
            f"error: GPU:0 ({CARD}) failed: on device:GPU:0 no room\n",
        ),
    ],
    ids=["full", "gone", "in a graph"],
)
def test_a_card_that_fails_while_it_trains_is_one_line(
    cards: Callable[..., Driver],
    monkeypatch: pytest.MonkeyPatch,
    error: tf.errors.OpError,
    told: str,
) -> None:
    cards(1)

    def fail(*given: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(run, "run", fail)
    status, out, err = run_command(train.main, [])
    assert (status, out) == (1, "")
    assert err.startswith(told)
    assert err.count("\n") == 1


@pytest.fixture
def with_driver_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(gpus, "DRIVER_DEVICE", tmp_path / "nvidiactl")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: [] if kind == "GPU" else [None]
    )


def test_a_machine_without_a_card_is_told_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpus, "DRIVER_DEVICE", tmp_path / "absent")
    assert gpus.why_no_gpu() is None


@pytest.mark.usefixtures("with_driver_device")
def test_libraries_that_are_missing_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One is in the loader's path, one in NVIDIA's wheels, the others are not here."""
    wheels = tmp_path / "nvidia" / "cublas" / "lib"
    wheels.mkdir(parents=True)
    (wheels / "libcublas.so.12").touch()
    monkeypatch.setattr(tf, "__file__", str(tmp_path / "tensorflow" / "__init__.py"))

    def load(name: str) -> None:
        if name not in ("libcuda.so.1", "libcudart.so.12") and not Path(name).exists():
            raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    told = gpus.why_no_gpu()
    assert told == (
        "this machine has an NVIDIA GPU, but TensorFlow cannot use it: libcublasLt.so.12, "
        "libcufft.so.11, libcusolver.so.11, libcusparse.so.12, libcudnn.so.9 cannot be loaded "
        "(pip install -r requirements-gpu.txt; docs/devices.md)"
    )
    device_setup.prepare_devices(TrainConfig())
    assert capsys.readouterr().err == f"note: {told}; the CPU trains\n"
    with pytest.raises(PlacementError, match="there is no device GPU:0; .* has an NVIDIA GPU, but"):
        find_devices(("gpu:0",))


@pytest.mark.usefixtures("with_driver_device")
def test_other_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    assert "its driver gives it none" in str(gpus.why_no_gpu())
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: False)
    assert "this TensorFlow is built without CUDA" in str(gpus.why_no_gpu())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpus.why_no_gpu() is None, "who hides the cards knows"


@pytest.mark.parametrize(("asked", "expected"), [([], False), (["--tensor-float-32"], True)])
def test_tensor_float_32_is_off_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: list[str], expected: bool
) -> None:
    set_to: list[bool] = []
    monkeypatch.setattr(tf.config.experimental, "enable_tensor_float_32_execution", set_to.append)
    monkeypatch.setattr(sys, "argv", ["train", *asked])
    device_setup.prepare_devices(train.parse_arguments().config)
    assert set_to == [expected]
