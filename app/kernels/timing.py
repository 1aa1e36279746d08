"""Times kernels: calls of one kind, to compare kernels, and what chunks cost, at warm-up."""

import time
from statistics import median

import numpy as np

from app.engine.cost_model import Cost
from app.engine.runner_interface import ModelRunner, on_accelerator

TRIALS = 11
# Seconds that the trials of one chunk take together, unless the first takes longer: a service
# that starts waits for them.
BUDGET_S = 0.01
# Time steps of the chunks that are timed. On a processor a few show what one costs; what an
# accelerator's call takes besides hides that of a few.
STEPS, STEPS_ON_ACCELERATOR = 8, 32


def measure_cost(runner: ModelRunner, features: int, max_rows: int, max_steps: int) -> Cost:
    """What the runner's chunks cost, from a lone time step, a lone row, and a full chunk.

    Args:
        runner: any of its call shapes may be new to it.
        features: F.
        max_rows: most rows of a chunk.
        max_steps: most time steps of a chunk.
    """
    steps = STEPS_ON_ACCELERATOR if on_accelerator(runner.devices) else STEPS
    steps = min(max_steps, steps)

    def seconds(rows: int, length: int) -> float:
        inputs = np.zeros((rows, length, features), np.float32)
        state = np.zeros((rows, runner.state_size), np.float32)
        return median_seconds(runner, inputs, np.full(rows, length, np.int32), state)

    return Cost.fit(max_rows, steps, seconds(1, 1), seconds(1, steps), seconds(max_rows, steps))


def median_seconds(
    runner: ModelRunner, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
) -> float:
    """How long a warm call takes on cores of its own: the median of a few, after one more.

    They are as many as `BUDGET_S` has room for, at least one and at most `TRIALS`.

    While others use the cores too, when several services start perhaps, a call takes longer than
    the processor's time that it needs. With that, chunks would be cut wrong for good.
    """
    alone = not on_accelerator(runner.devices)
    times: list[float] = []
    while len(times) < 2 or (len(times) <= TRIALS and sum(times[1:]) < BUDGET_S):
        started, used = time.perf_counter(), time.process_time()
        runner.run(inputs, lengths, state)
        seconds = time.perf_counter() - started
        # Layers on several devices of a processor use more of it than the time that passes.
        times.append(min(seconds, time.process_time() - used) if alone else seconds)
    return median(times[1:])
