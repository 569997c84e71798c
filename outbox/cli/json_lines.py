"""JSON as people send it, read strictly: what could be read otherwise than was meant is refused by name."""

import codecs
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from outbox.cli.running import Code, CommandError


class NotJson(ValueError):  # noqa: N818 - named for what the text is
    """A text that isn't JSON, or that readers of JSON take differently; the message is the reason."""


def loads(text: str) -> Any:
    """Read one JSON value.

    Raises:
        NotJson: it is none, has a key twice, or numbers that JSON doesn't have.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except NotJson:
        raise
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise NotJson(f"not JSON: {error.msg} at {line}column {error.colno}") from None
    except RecursionError:
        raise NotJson("is nested too deep") from None
    except ValueError:  # Python reads no such whole number, for the time that it takes
        raise NotJson(f"has a number of more than {sys.get_int_max_str_digits()} digits") from None


def read_lines(source: str, *, longest: int) -> Iterator[str]:
    r"""Read the lines of a file (``-``: stdin) as UTF-8, whatever the locale; a byte order mark is skipped.

    Lines end with ``\n``. No more than one of them, and no more of it than ``longest``, is held in memory.

    Raises:
        CommandError: the file can't be read, isn't UTF-8, or has a line of more than ``longest`` bytes.
    """
    name = "stdin" if source == "-" else source
    number = 0
    try:
        with _open(source) as file:
            for number, line in enumerate(iter(lambda: file.readline(longest + 1), b""), 1):
                if len(line) > longest:
                    raise _bad(f"{name}, line {number}: is longer than {longest} bytes")
                yield (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode()
    except OSError as error:
        after = f" after line {number}" if number else ""
        raise _bad(f"{name} can't be read{after}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8: {error.reason} at byte {error.start + 1}"
        raise _bad(f"{name}, line {number}: {reason}") from error


def _bad(message: str) -> CommandError:
    return CommandError(message, Code.BAD_INPUT)


def _open(source: str) -> AbstractContextManager[BinaryIO]:
    if source != "-":
        return Path(source).open("rb")
    if sys.stdin is None:
        raise _bad("stdin is closed")
    return nullcontext(sys.stdin.buffer)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise NotJson(f"has the key {twice!r:.100} twice")
    return found


def _constant(name: str) -> NoReturn:
    raise NotJson(f"has {name}, a number that JSON doesn't have")
