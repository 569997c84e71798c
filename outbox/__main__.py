"""The command ``outbox``, also as ``python -m outbox``: first what signals do, then all else."""

import sys

from outbox.cli.signals import end_at_once
from outbox.extras import lacking


def main() -> None:
    """The console script; a producer's install has it, and little that it needs."""
    end_at_once()
    try:
        from outbox.cli.main import main as run  # noqa: PLC0415 - a signal may come while it is imported
    except ModuleNotFoundError as error:
        if (missing := lacking(error)) is None:
            raise
        from outbox.documentation import Problem, of_problem  # noqa: PLC0415 - as above

        sys.stderr.write(f"outbox: {missing}\nhelp: {of_problem(Problem.MISSING_PACKAGE)}\n")
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
