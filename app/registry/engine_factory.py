"""`warm_engine`: an engine of the sizes that the settings ask for, or that suit the kernel."""

import logging

from app.engine.cost_model import AMPLE, Cost
from app.engine.counters import Counters
from app.engine.engine import Engine
from app.engine.runner_interface import MOST_ROWS, ModelRunner, most_rows, on_accelerator
from app.engine.scheduler import Sizes
from app.settings import Settings, available_cores

logger = logging.getLogger(__name__)

# The event loop may be away for so many seconds.
MAX_HOLD_S = 0.05


def warm_engine(settings: Settings, runner: ModelRunner, counters: Counters) -> Engine:
    """An engine whose kernel is warm; it is not started.

    Args:
        settings: sizes; those that are 0 are chosen by what the kernel's calls cost.
        runner: the kernel.
        counters: where the engine counts.

    Raises:
        ModelRefused: the kernel does not give what it should.
    """
    warn_of_idle_cores(settings, runner)
    most = settings.slots_per_lane or most_rows(runner.devices)
    cost = runner.warm_up(most, settings.max_chunk_steps)
    slots = settings.slots_per_lane or slots_per_lane(runner, cost)
    threads = settings.lanes or lane_threads(runner, cost)
    sizes = Sizes(
        lanes=max(1, threads),
        slots=max(1, threads) * slots,
        chunk_rows=slots,
        chunk_steps=settings.max_chunk_steps,
        waiting=settings.max_waiting_sequences,
        waiting_steps=settings.max_waiting_steps,
    )
    return Engine(runner, cost, sizes, threads=threads > 0, counters=counters)


def warn_of_idle_cores(settings: Settings, runner: ModelRunner) -> None:
    """Warns where there is one worker for the sake of an accelerator that the kernel cannot use."""
    if settings.beside_accelerator and not on_accelerator(runner.devices):
        logger.warning(
            "there is a driver of an accelerator, so there is one worker, but %s runs on the CPU: "
            "set UNROLL_WORKERS=%d for all cores; docs/operating.md says what CUDA needs",
            runner.kernel,
            available_cores(),
        )


def lane_threads(runner: ModelRunner, cost: Cost) -> int:
    """How many threads compute chunks; 0 where the event loop can do that by itself.

    Layers on several devices are the stages of a pipeline: a chunk in flight for each keeps all of
    them busy. A single accelerator has one chunk while the next is packed. On the processor a
    worker has a core, and a thread gains nothing unless chunks are so long that the event loop
    would seem to hang.
    """
    stages = len(set(runner.devices))
    if stages > 1 or on_accelerator(runner.devices):
        return max(2, stages)
    return int(cost.shortest_s() > MAX_HOLD_S)


def slots_per_lane(runner: ModelRunner, cost: Cost) -> int:
    """How many sequences run at once for each lane where no setting says so.

    On an accelerator as many as use it well: more would only wait beside each other. There cost was
    measured up to `most_rows`.
    """
    most = most_rows(runner.devices)
    if not on_accelerator(runner.devices):
        return most
    return max(MOST_ROWS, cost.enough_rows(most, enough=AMPLE))
