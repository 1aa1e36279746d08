"""Where time is cut into chunks, so that layers can work at the same time."""

import math

import tensorflow as tf

Chunk = tuple[int | tf.Tensor, int | tf.Tensor]

# Beginning a chunk costs a layer about as much as computing so many time steps. Measured on two
# cores: 3 x LSTM 100 with 128 x 72 is fastest in chunks of 9 time steps, 4 x LSTM 256 with 64 x 64
# in chunks of 6 to 8.
CHUNK_OVERHEAD_STEPS = 1.0


def cut(
    static_steps: int | None, num_steps: tf.Tensor, num_stages: int, chunk_steps: int | None = None
) -> list[Chunk]:
    """Start and end of each chunk.

    Args:
        static_steps: T where it is known when the graph is made; else time is not cut.
        num_steps: T.
        num_stages: how many layers can work at the same time.
        chunk_steps: time steps of a chunk; None to choose.
    """
    if static_steps is None:
        return [(0, num_steps)]
    steps = max(1, chunk_steps or choose_chunk_steps(static_steps, num_stages))
    starts = range(0, max(static_steps, 1), steps)
    return [(start, min(start + steps, static_steps)) for start in starts]


def choose_chunk_steps(num_steps: int, num_stages: int) -> int:
    """The chunk length that takes the least time.

    With K chunks of T/K time steps, S stages take K + S - 1 rounds, and a round the time of T/K
    time steps and what a chunk costs by itself. The derivative by K is zero at
    K = sqrt((S - 1) * T / overhead).
    """
    best = math.sqrt((num_stages - 1) * num_steps / CHUNK_OVERHEAD_STEPS)
    return math.ceil(num_steps / max(1, round(best)))
