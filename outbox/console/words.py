"""Text from the ledger and the stores, made fit to be shown: whatever somebody put into it."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

import orjson

SHOWN_MOST = 2_000
PAYLOAD_MOST = 20_000
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
_LINES = re.compile(r"[\t\n]")


def visible(text: str, most: int = SHOWN_MOST) -> str:
    """Name the characters that can't be seen, or that turn the order of others; cut what is very long."""
    cut = f"… ({len(text):,} characters)" if len(text) > most else ""
    return "".join(map(_seen, text[:most])) + cut


def payload(value: Any) -> str:
    """A request as JSON over several lines."""
    return visible(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode(), PAYLOAD_MOST)


def span(seconds: float | None) -> str:
    """How long something took, in the unit that fits."""
    if seconds is None:
        return "-"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def moment(at: datetime) -> str:
    """A time for people, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _seen(character: str) -> str:
    if _LINES.match(character) or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn"}:
        return character
    return f"⟨U+{ord(character):04X}⟩"
