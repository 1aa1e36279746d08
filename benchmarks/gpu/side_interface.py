"""How a side of `training` is asked: it makes what it trains, and times batches of it."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from benchmarks.processes.side import Answer
from benchmarks.training.case import Case

WARM_UPS = 3
FEWEST, MOST = 2, 200


class Trainer(Protocol):
    """A model that is trained on one batch again and again.

    Attributes:
        cudnn: what is known of its use of cuDNN.
    """

    cudnn: Any

    def batch(self) -> None:
        """Trains on the batch; may return before the GPU has done it."""
        ...

    def synchronize(self) -> None:
        """Waits for the GPU."""
        ...

    def loss(self) -> float:
        """A number that shows that it trains."""
        ...


class Trainers:
    """All that a side trains, by what it is.

    Args:
        make: a trainer, by name, case, and the chance to keep an output of a layer.
    """

    def __init__(self, make: Callable[[str, Case, float], Trainer]) -> None:
        self._make = make
        self._found: dict[tuple[str, Case, float], Trainer] = {}
        self._once: dict[tuple[str, Case, float], float] = {}

    def questions(self) -> Mapping[str, Callable[..., Answer]]:
        """What the side can be asked."""
        return {"prepare": self.prepare, "burst": self.burst}

    def prepare(self, name: str, case: dict[str, Any], keep: float) -> Answer:
        """Makes it, warm: traced, compiled, and its memory is there."""
        started = time.perf_counter()
        place = (name, Case(**case), keep)
        trainer = self._found[place] = self._make(*place)
        _seconds(trainer, WARM_UPS)
        self._once[place] = _seconds(trainer, 1)
        return {"cudnn": trainer.cudnn, "prepare_s": time.perf_counter() - started}

    def burst(self, name: str, case: dict[str, Any], keep: float, burst_s: float) -> Answer:
        """Seconds of a batch, the mean of as many in a row as take about `burst_s`."""
        place = (name, Case(**case), keep)
        trainer = self._found[place]
        count = min(MOST, max(FEWEST, round(burst_s / self._once[place])))
        return {"seconds": _seconds(trainer, count), "batches": count, "loss": trainer.loss()}


def _seconds(trainer: Trainer, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        trainer.batch()
    trainer.synchronize()
    return (time.perf_counter() - started) / count
