"""What a worker does, as spans: each attempt continues what its producer began.

The names and attributes are those of OpenTelemetry's conventions for messaging and RPC. No span lasts longer
than one attempt, one call or one settle.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from itertools import islice
from types import TracebackType

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import default_getter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from outbox import current
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome
from outbox.flow.settlement import Settlement
from outbox.flow.table import STEPS, Consumer, EventType, Kind
from outbox.store.relay import Dispatched
from outbox.store.work import Settled
from outbox.telemetry.late import NOWHERE, UNSET, Begun, Late
from outbox.telemetry.requested import requested_at
from outbox.worker.observer import Observer

SYSTEM = "agent_schedule_outbox"
DESTINATION = "agent-schedules"

_PROCESS = f"process {DESTINATION}"
_SETTLE = f"settle {DESTINATION}"
_SEND = f"send {DESTINATION}"
_DONE = {"outbox.outcome": "done"}, UNSET
# A span that is much younger than its parent makes a trace that nobody can read: then it is linked.
_CHILD_SECONDS = 60.0
_LINKS_MOST = 128
_W3C = TraceContextTextMapPropagator()


class Traced:
    """An observer that makes spans, and passes on what it is told."""

    def __init__(self, late: Late, inner: Observer) -> None:
        self._late = late
        self._inner = inner
        # Of what was attempted and is not settled yet.
        self._attempted: dict[tuple[int, int], _Attempt] = {}

    def took(self, dispatches: Sequence[Dispatch], seconds: float) -> None:
        """Make no span: nothing of an intent happens then."""
        self._inner.took(dispatches, seconds)

    def began(self, dispatch: Dispatch) -> None:
        """Make ready for the spans of its calls."""
        self._inner.began(dispatch)
        current.spans.set(_Attempt(self._late, dispatch))

    def attempted(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        """Keep how it came out until it is settled: spans that are built together cost less."""
        self._inner.attempted(dispatch, outcome, seconds)
        attempt = current.spans.get()
        if isinstance(attempt, _Attempt):
            attempt.end(outcome, seconds)
            self._attempted[dispatch.intent_id.int, dispatch.lease_number] = attempt

    def settled(self, batch: Sequence[Settlement], settled: Settled, seconds: float) -> None:
        """Make the span of a settle, linked to the attempts that it settles."""
        self._inner.settled(batch, settled, seconds)
        made = [self._attempted.pop((one.intent_id.int, one.lease_number), None) for one in batch]
        contexts = [one.build() for one in made if one]
        links = [Link(context) for context in contexts[:_LINKS_MOST]]
        about: dict[str, str | int] = {
            **_messaging("settle"),
            "messaging.batch.message_count": len(batch),
            "outbox.settlements.dropped": len(batch) - len(settled.matched),
        }
        span = self._late.begin(_SETTLE, SpanKind.CLIENT, about, links=links)
        now = time.time_ns()
        self._late.end(span, now - int(seconds * 1e9), now, {})


class _Attempt:
    """An attempt: it makes the spans of its calls, and in the end its own.

    Its own is a child of the producer's while that is fresh, else linked to it.
    """

    __slots__ = ("_dispatch", "_late", "_outcome", "_seconds", "_span", "_until")

    def __init__(self, late: Late, dispatch: Dispatch) -> None:
        self._late = late
        self._dispatch = dispatch
        self._span: Begun | None = None

    def call(self, system: str, method: str) -> AbstractContextManager[Mapping[str, str]]:
        """Make the span of one call; the store's own spans go below it, by the headers."""
        below = set_span_in_context(NonRecordingSpan(self._begun().context), Context())
        about = {"rpc.system.name": "grpc", "rpc.method": method, "peer.service": system}
        return _Call(self._late, self._late.begin(method, SpanKind.CLIENT, about, below=below))

    def end(self, outcome: Outcome, seconds: float) -> None:
        """It has come out so now, after so long."""
        self._outcome = outcome
        self._seconds = seconds
        self._until = time.time_ns()

    def build(self) -> SpanContext:
        """Make its span."""
        span = self._begun()
        began = self._until - int(self._seconds * 1e9)
        self._late.end(span, began, self._until, *_came_out(self._outcome))
        return span.context

    def _begun(self) -> Begun:
        if self._span is None:
            below, links = _place(self._dispatch)
            about = _about(self._dispatch)
            self._span = self._late.begin(_PROCESS, SpanKind.CONSUMER, about, below=below, links=links)
        return self._span


class _Call:
    """One call, for as long as the context is open."""

    __slots__ = ("_began", "_late", "_span")

    def __init__(self, late: Late, span: Begun) -> None:
        self._late = late
        self._span = span
        self._began = time.time_ns()

    def __enter__(self) -> Mapping[str, str]:
        headers: dict[str, str] = {}
        _W3C.inject(headers, set_span_in_context(NonRecordingSpan(self._span.context), Context()))
        return headers

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = Status(StatusCode.ERROR, f"{type(error).__name__}: {error}") if error else UNSET
        self._late.end(self._span, self._began, time.time_ns(), {}, status)


class Relayed:
    """Makes the spans of what a relay sends: one a batch, linked to the producers'."""

    def __init__(self, late: Late) -> None:
        self._late = late

    def __call__(self, batch: Sequence[Dispatched], arrived: int, seconds: float) -> None:
        """Make it; the records carry the producers' contexts, and never this one."""
        traced = (one.trace for one in batch if one.trace)
        links = [link for trace in islice(traced, _LINKS_MOST) for link in _link(_creation(trace))]
        about: dict[str, str | int] = {
            **_messaging("send"),
            "messaging.batch.message_count": len(batch),
            "outbox.steps.recalled": len(batch) - arrived,
        }
        span = self._late.begin(_SEND, SpanKind.CLIENT, about, links=links)
        now = time.time_ns()
        self._late.end(span, now - int(seconds * 1e9), now, {})


def _place(dispatch: Dispatch) -> tuple[Context, Sequence[Link]]:
    """Where an attempt's span goes: its parent's context, and its links."""
    if not dispatch.trace:
        return NOWHERE, ()
    creation = _creation(dispatch.trace)
    if dispatch.attempt == 1 and time.time() - requested_at(dispatch.intent_id) < _CHILD_SECONDS:
        return creation, ()
    return NOWHERE, _link(creation)


def _creation(trace: Mapping[str, str]) -> Context:
    """The context of the producer's span, as the ledger kept it."""
    return _W3C.extract(dict(trace), Context(), default_getter)


def _link(creation: Context) -> Sequence[Link]:
    producer = get_current_span(creation).get_span_context()
    return [Link(producer)] if producer.is_valid else ()


def _about(dispatch: Dispatch) -> dict[str, str | int]:
    about: dict[str, str | int] = {
        **_about_step(dispatch.event_type, dispatch.kind),
        "messaging.message.id": str(dispatch.intent_id),
        "messaging.message.conversation_id": dispatch.schedule_id,
        "outbox.attempt": dispatch.attempt,
        "outbox.lease_number": dispatch.lease_number,
    }
    if dispatch.consumer is not Consumer.AUTHZ:
        # What Temporal calls the workflows that the schedule starts, with the time of each after it.
        about["outbox.workflow_id"] = f"{dispatch.schedule_id}-run"
    return about


@cache
def _about_step(event: EventType, kind: Kind) -> Mapping[str, str]:
    step = STEPS[event]
    return {
        **_messaging("process"),
        "outbox.kind": kind.value,
        "outbox.consumer": step.consumer.value,
        "outbox.effect": step.effect.value,
    }


def _messaging(operation: str) -> dict[str, str]:
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": DESTINATION,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }


def _came_out(outcome: Outcome) -> tuple[Mapping[str, str], Status]:
    return _DONE if isinstance(outcome, Done) else _failed(type(outcome).__name__.lower(), outcome.code)


@cache
def _failed(kind: str, code: ErrorCode) -> tuple[Mapping[str, str], Status]:
    return {"outbox.outcome": kind, "error.type": code.value}, Status(StatusCode.ERROR, code.value)
