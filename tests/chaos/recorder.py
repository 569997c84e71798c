"""Writes down what the clients of a campaign ask and are told. The format is told in docs/histories.md."""

import gzip
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TextIO

FORMAT = "agent-schedule-outbox-history"
VERSION = 1
# Where the judge looks for what was recorded here.
_KEPT = Path(__file__).parents[2] / ".chaos"


class Recorder:
    """A history that is being written; any thread may write to it.

    Args:
        file: where its lines go.
        clock: tells nanoseconds that never go back; those of the beginning are taken away.
    """

    def __init__(self, file: TextIO, clock: Callable[[], int]) -> None:
        self._file = file
        self._clock = clock
        self._began = clock()
        self._numbers = count()
        self._turn = threading.Lock()

    def ask(self, by: str, what: str, schedule_id: str | None = None, **value: Any) -> "Asked":
        """Write down that a client begins to ask; what it is told is for the caller to add."""
        asked = Asked(self, next(self._numbers))
        self._write(asked.number, "invoke", _about(by, what, schedule_id) | {"value": value})
        return asked

    def note(self, by: str, what: str, schedule_id: str | None = None, **value: Any) -> None:
        """Write down what a client is told unasked, or what holds from now on."""
        self._write(next(self._numbers), "ok", _about(by, what, schedule_id) | {"value": value})

    def _write(self, number: int, kind: str, rest: Mapping[str, Any]) -> None:
        with self._turn:
            # Taken in turn, so that lines are in the order of their times.
            line = {"time": self._clock() - self._began, "op": number, "type": kind, **rest}
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


class Asked:
    """One request of a client, from its beginning to what the client is told.

    Attributes:
        number: that its lines share.
    """

    def __init__(self, recorder: Recorder, number: int) -> None:
        self._recorder = recorder
        self.number = number

    def told(self, **value: Any) -> None:
        """It was answered."""
        self._recorder._write(self.number, "ok", {"value": value})

    def failed(self, error: object, **value: Any) -> None:
        """It is known to have changed nothing, and a read to have shown nothing."""
        self._recorder._write(self.number, "fail", {"value": {"error": _line(error), **value}})

    def unknown(self, error: object, **value: Any) -> None:
        """Nobody knows whether it took effect."""
        self._recorder._write(self.number, "info", {"value": {"error": _line(error), **value}})


@contextmanager
def recording(
    path: Path, about: Mapping[str, Any], clock: Callable[[], int] = time.monotonic_ns
) -> Iterator[Recorder]:
    """A recorder to a new file; what it is about stands in the first line."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(json.dumps({"format": FORMAT, "version": VERSION, **about}) + "\n")
        yield Recorder(file, clock)


def keep(recorded: Path, name: str) -> Path:
    """Keep a history under this name for ``make judge``; its path from the top."""
    _KEPT.mkdir(exist_ok=True)
    kept = Path(shutil.copy(recorded, _KEPT / f"{name}.jsonl.gz"))
    return kept.relative_to(_KEPT.parent)


def _about(by: str, what: str, schedule_id: str | None) -> dict[str, Any]:
    where = {} if schedule_id is None else {"schedule": schedule_id}
    return {"by": by, "f": what, **where}


def _line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
