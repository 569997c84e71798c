"""The attempt that is being made: what is said and sent meanwhile belongs to it, wherever that happens.

Each attempt runs in a task of its own, and so has a context of its own.
"""

from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, Protocol


class Spans(Protocol):
    """Makes the spans of an attempt's calls to a store, where somebody traces."""

    def call(self, system: str, method: str) -> AbstractContextManager[Mapping[str, str]]:
        """A call is made inside; it carries the headers that this gives."""
        ...


TRACE_HEADERS = ("traceparent", "tracestate")


class Attempt(Protocol):
    """What is being attempted."""

    def about(self) -> Mapping[str, Any]:
        """What every line that is logged meanwhile says of it."""
        ...


attempt: ContextVar[Attempt | None] = ContextVar("outbox_attempt", default=None)
"""The attempt itself."""

spans: ContextVar[Spans | None] = ContextVar("outbox_spans", default=None)
"""Whoever traces the attempt."""


def calling(
    system: str, method: str, headers: Mapping[str, str]
) -> AbstractContextManager[Mapping[str, str]]:
    """A call to a store is made inside: with these headers, and its span's trace context if it has a span."""
    traced = spans.get()
    return nullcontext(headers) if traced is None else _Carrying(traced.call(system, method), headers)


class _Carrying:
    """A call with a span: the span's context takes the place of the producer's."""

    def __init__(self, span: AbstractContextManager[Mapping[str, str]], headers: Mapping[str, str]) -> None:
        self._span = span
        self._headers = headers

    def __enter__(self) -> Mapping[str, str]:
        others = {name: value for name, value in self._headers.items() if name not in TRACE_HEADERS}
        return {**others, **self._span.__enter__()}

    def __exit__(self, *raised: object) -> bool | None:
        return self._span.__exit__(*raised)  # type: ignore[arg-type]


def add_attempt(_: Any, __: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Have a line of the log say which attempt it is of, if it is of one: a processor of structlog's."""
    made = attempt.get()
    return line if made is None else {**made.about(), **line}
