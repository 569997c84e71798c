"""Spans that are built when they have ended: until then a span is its ids, and whether it is sampled.

OpenTelemetry's own are built to be changed from any thread while they last, and cost a step several times as
much. Sampler, ids, resource and processors are those of the tracer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Tracer
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, get_current_span

Attributes = Mapping[str, str | int]

NOWHERE = Context()
"""Below no span: where a trace begins."""

UNSET = Status(StatusCode.UNSET)
"""Nothing went wrong."""


class Begun(NamedTuple):
    """A span that has not ended.

    Attributes:
        parent: of the span that it is below; None: it begins a trace.
        attributes: those it begins with; None: it is not sampled, and will not be built.
    """

    name: str
    kind: SpanKind
    context: SpanContext
    parent: SpanContext | None
    links: Sequence[Link]
    attributes: dict[str, Any] | None


class Late:
    """Makes such spans."""

    def __init__(self, tracer: Any) -> None:
        """Make what this tracer of the SDK would make."""
        self._tracer: Tracer = tracer
        self._scope = InstrumentationScope(self._tracer.instrumentation_info.name)
        self._random = TraceFlags.RANDOM_TRACE_ID if self._tracer.id_generator.is_trace_id_random() else 0

    def begin(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Any],
        *,
        below: Context = NOWHERE,
        links: Sequence[Link] = (),
    ) -> Begun:
        """Give it ids and ask the sampler. The attributes become its own."""
        tracer = self._tracer
        parent: SpanContext | None = None
        random: int = self._random
        if below is not NOWHERE:
            found = get_current_span(below).get_span_context()
            if found.is_valid:
                parent, random = found, found.trace_flags & TraceFlags.RANDOM_TRACE_ID
        trace_id = parent.trace_id if parent else tracer.id_generator.generate_trace_id()
        sampled = tracer.sampler.should_sample(below, trace_id, name, kind, attributes, links)
        is_sampled = sampled.decision is Decision.RECORD_AND_SAMPLE
        flags = random | TraceFlags.SAMPLED if is_sampled else random
        context = SpanContext(
            trace_id,
            tracer.id_generator.generate_span_id(),
            is_remote=False,
            trace_flags=TraceFlags(flags),
            trace_state=sampled.trace_state,
        )
        added: Mapping[str, Any] = sampled.attributes
        if is_sampled and len(added) > len(attributes):
            attributes.update(added)
        return Begun(name, kind, context, parent, links, attributes if is_sampled else None)

    def end(self, begun: Begun, start: int, end: int, attributes: Attributes, status: Status = UNSET) -> None:
        """Build it, with what has come up meanwhile, and pass it on; times are in nanoseconds since 1970."""
        name, kind, context, parent, links, all_of_them = begun
        if all_of_them is None:
            return
        all_of_them.update(attributes)
        span = ReadableSpan(
            name,
            context,
            parent,
            self._tracer.resource,
            all_of_them,
            (),
            links,
            kind,
            None,
            status,
            start,
            end,
            self._scope,
        )
        self._tracer.span_processor.on_end(span)
