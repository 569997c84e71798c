"""Times as people type them: so long ago, so long from now, or a moment."""

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(option: str, text: str) -> datetime:
    """Read ``30s``, ``15m``, ``2h``, ``7d`` (ago) or an ISO 8601 time.

    Raises:
        ValueError: it is neither; the message names the option.
    """
    return _read(option, text, -1)


def moment_ahead(option: str, text: str) -> datetime:
    """Read ``30s``, ``15m``, ``2h``, ``7d`` (from now) or an ISO 8601 time that is still to come.

    Raises:
        ValueError: it is neither, or has passed; the message names the option.
    """
    at = _read(option, text, 1)
    if at <= datetime.now(UTC):
        raise ValueError(f"{option} {text}: that has passed")
    return at


def _read(option: str, text: str, direction: int) -> datetime:
    try:
        if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
            return datetime.now(UTC) + direction * timedelta(**{_UNITS[match[2]]: int(match[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{option} {text}: it is 30s, 15m, 2h, 7d, or an ISO 8601 time") from error
