"""Takes a stack down when the process that wanted it ends, however it ends: killed tests leave no servers."""

import subprocess
import sys
from pathlib import Path

_WATCHDOG = Path(__file__).with_name("watchdog.py")


class Guard:
    """A process that waits for the end of this one's pipe, and then takes the stack down."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def arm(self) -> None:
        """Start watching."""
        self._process = subprocess.Popen(
            # -P keeps this folder off the import path.
            [sys.executable, "-P", str(_WATCHDOG), str(self._home)],
            stdin=subprocess.PIPE,
            # A keyboard's Ctrl-C is for the watched process alone.
            start_new_session=True,
        )

    def disarm(self) -> None:
        """Stop watching."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
