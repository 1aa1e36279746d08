"""Whether idle cores help: it is seen from time to time, and other programs may use them."""

from app.kernels.idle_time import MOST_REST_S, REST_S, SAMPLES, WINDOW, IdleTime


class Seen:
    """Chunks whose seconds a test gives."""

    def __init__(self) -> None:
        self.now = 0.0
        self.idle_time = IdleTime(lambda: self.now)

    def chunk(self, together_s: float, alone_s: float = 1.0) -> bool:
        """Whether several threads computed it."""
        together = self.idle_time.is_used()
        self.idle_time.observe(together, together_s if together else alone_s)
        return together


def test_one_thread_computes_the_first_and_then_a_few() -> None:
    seen = Seen()
    found = [seen.chunk(0.6) for _ in range(3 * SAMPLES)]
    assert [index for index, together in enumerate(found) if not together] == [
        0,
        SAMPLES,
        2 * SAMPLES,
    ]


def test_where_other_programs_use_the_cores_it_rests_for_longer_and_longer() -> None:
    seen = Seen()
    used: list[int] = []
    for _ in range(3):
        # A minute's chunks.
        used.append(0)
        for _ in range(6000):
            used[-1] += seen.chunk(1.3)
            seen.now += 0.01
    assert WINDOW <= used[0] <= 10 * WINDOW
    assert used[1] <= 2 * WINDOW
    assert used[2] <= 2 * WINDOW
    seen.now += MOST_REST_S
    found = [seen.chunk(0.6) for _ in range(3 * WINDOW)]
    assert found.count(True) >= 3 * WINDOW - 1, "it has them again when they are free"
    # The next rest is a short one.
    while seen.chunk(1.3):
        pass
    seen.now += REST_S
    assert any(seen.chunk(0.6) for _ in range(2))


def test_a_few_slow_chunks_are_nothing() -> None:
    seen = Seen()
    found = [seen.chunk(1.2 if index % 3 else 0.2) for index in range(5 * WINDOW)]
    assert found.count(False) == 1 + 5 * WINDOW // SAMPLES


def test_slow_is_what_takes_longer_than_one_thread_does_now() -> None:
    seen = Seen()
    # All takes twice as long as expected.
    seen.chunk(0.0, alone_s=2.0)
    assert all(seen.chunk(1.3) for _ in range(SAMPLES - 1))
