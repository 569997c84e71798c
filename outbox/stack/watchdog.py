"""Run as a script beside a process: takes its stack down when that process has ended, however it ended."""

import sys
from pathlib import Path


def main() -> None:
    """Wait for the end of the pipe, and take the stack down."""
    sys.stdin.buffer.read()
    from outbox.stack.stack import Stack  # noqa: PLC0415 - it imports nothing until it has work

    Stack(Path(sys.argv[1])).down()


if __name__ == "__main__":
    main()
