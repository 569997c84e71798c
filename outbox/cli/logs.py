"""Where a command's logs go, and in which layout."""

import sys
from typing import TYPE_CHECKING, TextIO, cast

from outbox.cli.stderr import Stderr

if TYPE_CHECKING:
    from structlog.typing import Processor


def set_up_logs(*, verbose: bool, layout: str = "auto") -> None:
    """Send logs to stderr.

    Args:
        verbose: whether steps that are done are logged, too.
        layout: ``json`` (lines), ``text``, or ``auto``: text for people on a terminal, JSON lines elsewhere.
    """
    import logging  # noqa: PLC0415 - help and completion log nothing

    import structlog  # noqa: PLC0415

    from outbox.current import add_attempt  # noqa: PLC0415

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_attempt,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks without variables, whose values may be payloads or tokens: structlog would show them all.
    people: list[Processor] = [
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    ]
    as_data = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    programs: list[Processor] = [
        structlog.processors.ExceptionRenderer(as_data),
        structlog.processors.JSONRenderer(),
    ]
    in_text = sys.stderr.isatty() if layout == "auto" else layout == "text"
    structlog.configure(
        processors=shared + (people if in_text else programs),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(cast("TextIO", Stderr())),
    )
