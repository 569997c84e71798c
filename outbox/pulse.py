"""The pulse of a loop: whether it still turns can be told from any thread."""

import time

# After which a loop hangs: a turn may wait for a connection, its check and a statement, each of them bounded.
HUNG_SECONDS = 120.0


class Pulse:
    """Beats each time that a loop comes round.

    It goes by the machine's clock, not by ``outbox.clock``, which stands still while the event loop hangs.
    """

    def __init__(self) -> None:
        self._at: float | None = time.monotonic()

    def beat(self) -> None:
        """The loop has come round."""
        self._at = time.monotonic()

    def rest(self) -> None:
        """There is nothing to do: until the next beat it may stand still."""
        self._at = None

    def age(self) -> float:
        """Seconds since the last beat; since this was made, if there was none; 0 at rest."""
        at = self._at
        return 0.0 if at is None else time.monotonic() - at
