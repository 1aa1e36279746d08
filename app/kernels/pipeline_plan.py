"""`PipelinePlan`: when a pipeline of layers pays, and into how many parts a chunk is cut for it."""

import math
import sys

# A pipeline pays where it is expected to take at most this part of the time of one thread.
PAYS = 0.9
# A thread that sleeps wakes in so many seconds, on a virtual machine.
WAKE_S = 60e-6
# Beside its time steps, a part takes so many seconds at least.
LEAST_CALL_S = 5e-6
# Parts have a multiple of so many time steps. ONNX Runtime multiplies 12, 6 or 4 rows at a time, by
# the processor, and sums up what is left over in another order: so a chunk of one row gives the
# very numbers of one thread.
BLOCK_STEPS = 12


class PipelinePlan:
    """See the module. The parts of all layers are so many tasks, N.

    With P threads all but the first and the last few are computed P at a time. So they take as long
    as `N / P + P - 1` tasks one after the other, each `alone / N + task`, and a thread has to wake:
    that is least where N is the root of `alone * P * (P - 1) / task`.

    Args:
        layers: of the model.
        call_s: seconds of a task beside its time steps.

    Attributes:
        shortest_s: no chunk that takes one thread less pays, with any number of threads.
    """

    def __init__(self, layers: int, call_s: float) -> None:
        self._layers = layers
        self._task_s = max(LEAST_CALL_S, call_s)
        self.shortest_s = self._task_s
        while not self.parts(self.shortest_s, sys.maxsize, layers):
            self.shortest_s *= 1.05

    def parts(self, alone_s: float, steps: int, threads: int) -> int:
        """Into how many parts the time steps of a chunk are cut; 0 where a pipeline does not pay.

        Args:
            alone_s: seconds of the chunk on one thread.
            steps: of each of its rows.
            threads: that would compute.
        """
        threads = min(threads, self._layers)
        tasks = math.sqrt(alone_s * threads * (threads - 1) / self._task_s)
        parts = min(steps // BLOCK_STEPS, round(tasks / self._layers))
        if parts < 2:
            return 0
        tasks = parts * self._layers
        seconds = (tasks / threads + threads - 1) * (alone_s / tasks + self._task_s) + WAKE_S
        return parts if seconds <= PAYS * alone_s else 0


def ends_of(steps: int, parts: int) -> list[int]:
    """Where the parts of so many time steps end; each begins where the one before it ends."""
    block = BLOCK_STEPS if parts <= steps // BLOCK_STEPS else 1
    return [steps * part // parts // block * block for part in range(1, parts)] + [steps]
