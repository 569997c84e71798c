"""Where logs go: to stderr, and nowhere if that can't be written (a full disk, a closed pipe)."""

import sys


class Stderr:
    """Stderr as a stream that never raises: no step may fail because of what is said of it.

    Looked up with each line, as stderr may be another one by then.
    """

    def write(self, text: str) -> int:
        """Write, if it can be written."""
        try:
            return sys.stderr.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        """Flush, if it can be written."""
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            return
