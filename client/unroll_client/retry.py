"""When to send again, and after how long."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Retry:
    """How often and how long to try.

    What is sent again counts once: a prediction changes nothing, a piece of a session says where
    it begins. So lost connections, timeouts and "try again later" (429, 502, 503, 504) are tried
    again.

    Attributes:
        attempts: times to send, the first one included; 1 for never again. By default so many that
            it is `total_s` that ends it, which outlasts a restart of the service.
        total_s: seconds after which nothing is sent again.
        first_wait_s: longest wait before the second time; it doubles each time.
        max_wait_s: longest wait, unless the service asks for a longer one.
    """

    attempts: int = 20
    total_s: float = 30.0
    first_wait_s: float = 0.2
    max_wait_s: float = 5.0

    def wait_s(
        self, sent: int, elapsed_s: float, chance: float, retry_after_s: float | None
    ) -> float | None:
        """Seconds to wait before sending again, or None to give up.

        Args:
            sent: times it was sent.
            elapsed_s: since the first.
            chance: 0 to 1, random: callers who failed together do not come back together.
            retry_after_s: that the service asked for.
        """
        if sent >= self.attempts:
            return None
        wait_s = chance * min(self.max_wait_s, self.first_wait_s * 2.0 ** min(sent - 1, 60))
        # Never before the service asked for it; somewhat after, for the same reason.
        wait_s += retry_after_s or 0.0
        return wait_s if elapsed_s + wait_s <= self.total_s else None
