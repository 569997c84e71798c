"""The command ``outbox``, also as ``python -m outbox``: first what signals do, then all else."""

from outbox.cli.signals import end_at_once


def main() -> None:
    """The console script."""
    end_at_once()
    from outbox.cli.main import main as run  # noqa: PLC0415 - a signal may come while it is imported

    run()


if __name__ == "__main__":
    main()
