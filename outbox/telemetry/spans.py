"""What a worker does, as spans: each attempt continues what its producer began.

The names and attributes are those of OpenTelemetry's conventions for messaging and RPC. No span lasts longer
than one attempt, one call or one settle.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import UUID

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import default_getter
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from outbox import current
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome
from outbox.flow.settlement import Settlement
from outbox.flow.table import Consumer
from outbox.store.work import Settled
from outbox.telemetry.requested import requested_at
from outbox.worker.observer import Observer, Report

SYSTEM = "agent_schedule_outbox"
DESTINATION = "agent-schedules"

# A span that is much younger than its parent makes a trace that nobody can read: then it is linked.
_CHILD_SECONDS = 60.0
_LINKS_MOST = 128
_W3C = TraceContextTextMapPropagator()


class Traced:
    """An observer that makes spans, and passes on what it is told."""

    def __init__(self, tracer: Tracer, inner: Observer) -> None:
        self._tracer = tracer
        self._inner = inner
        # What was attempted and is not settled yet.
        self._attempts: dict[tuple[UUID, int], SpanContext] = {}

    def took(self, dispatches: Sequence[Dispatch], seconds: float) -> None:
        """Make no span: nothing of an intent happens then."""
        self._inner.took(dispatches, seconds)

    @contextmanager
    def attempt(self, dispatch: Dispatch) -> Iterator[Report]:
        """Make the span of an attempt: a child of the producer's while that is fresh, else linked to it."""
        creation = _creation(dispatch.trace)
        parent, links = _under(creation, dispatch)
        span = self._tracer.start_span(
            f"process {DESTINATION}",
            parent,
            SpanKind.CONSUMER,
            _attributes(dispatch),
            links,
        )
        self._attempts[dispatch.intent_id, dispatch.lease_number] = span.get_span_context()
        token = current.spans.set(_Calls(self._tracer, span))
        try:
            with self._inner.attempt(dispatch) as report:

                def tell(outcome: Outcome) -> None:
                    _come_out(span, outcome)
                    report(outcome)

                yield tell
        finally:
            current.spans.reset(token)
            span.end()

    def settled(self, batch: Sequence[Settlement], settled: Settled, seconds: float) -> None:
        """Make the span of a settle, linked to the attempts that it settles."""
        self._inner.settled(batch, settled, seconds)
        made = [self._attempts.pop((one.intent_id, one.lease_number), None) for one in batch]
        links = [Link(context) for context in made if context is not None][:_LINKS_MOST]
        now = time.time_ns()
        self._tracer.start_span(
            f"settle {DESTINATION}",
            Context(),
            SpanKind.CLIENT,
            {
                **_messaging("settle"),
                "messaging.batch.message_count": len(batch),
                "outbox.settlements.dropped": len(batch) - len(settled.matched),
            },
            links,
            start_time=now - int(seconds * 1e9),
        ).end(now)


class _Calls:
    """Makes the spans of an attempt's calls."""

    def __init__(self, tracer: Tracer, attempt: Span) -> None:
        self._tracer = tracer
        self._attempt = attempt

    @contextmanager
    def call(self, system: str, method: str) -> Iterator[Mapping[str, str]]:
        """Make the span of one call; the store's own spans go below it, by the headers."""
        context = set_span_in_context(self._attempt, Context())
        attributes = {"rpc.system.name": "grpc", "rpc.method": method, "peer.service": system}
        with self._tracer.start_as_current_span(
            method, context, SpanKind.CLIENT, attributes, record_exception=False
        ) as span:
            headers: dict[str, str] = {}
            _W3C.inject(headers, set_span_in_context(span, Context()))
            yield headers


def _creation(trace: Mapping[str, str]) -> Context:
    """The context of the producer's span, as the ledger kept it; empty where it kept none."""
    return _W3C.extract(dict(trace), Context(), default_getter)


def _under(creation: Context, dispatch: Dispatch) -> tuple[Context, list[Link]]:
    """Where an attempt's span goes: its parent's context, and its links."""
    producer = get_current_span(creation).get_span_context()
    if not producer.is_valid:
        return Context(), []
    fresh = time.time() - requested_at(dispatch.intent_id) < _CHILD_SECONDS
    if dispatch.attempt == 1 and fresh:
        return creation, []
    return Context(), [Link(producer)]


def _attributes(dispatch: Dispatch) -> dict[str, str | int]:
    about: dict[str, str | int] = {
        **_messaging("process"),
        "messaging.message.id": str(dispatch.intent_id),
        "messaging.message.conversation_id": dispatch.schedule_id,
        "outbox.kind": dispatch.kind.value,
        "outbox.consumer": dispatch.consumer.value,
        "outbox.effect": dispatch.step.effect.value,
        "outbox.attempt": dispatch.attempt,
        "outbox.lease_number": dispatch.lease_number,
    }
    if dispatch.consumer is not Consumer.AUTHZ:
        # What Temporal calls the workflows that the schedule starts, with the time of each after it.
        about["outbox.workflow_id"] = f"{dispatch.schedule_id}-run"
    return about


def _messaging(operation: str) -> dict[str, str]:
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": DESTINATION,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }


def _come_out(span: Span, outcome: Outcome) -> None:
    span.set_attribute("outbox.outcome", type(outcome).__name__.lower())
    if not isinstance(outcome, Done):
        span.set_attribute("error.type", outcome.code.value)
        span.set_status(Status(StatusCode.ERROR, outcome.code.value))
