"""The spans of an intent: they continue its producer's, on either wire, down to the calls of the stores."""

import asyncio
import io
import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, Tracer, format_span_id, format_trace_id

import outbox
from outbox import current
from outbox.cli.logs import set_up_logs
from outbox.compose.kafka import open_publisher, open_relay, running
from outbox.compose.telemetry import Unwatched, watching
from outbox.compose.worker import open_worker
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome, Transient
from outbox.settings import Settings
from outbox.stack import StackInfo
from outbox.telemetry.late import Late
from outbox.telemetry.spans import Relayed, Traced
from outbox.testing import FaultProxy
from outbox.worker.observer import Unobserved
from tests.conftest import settings_for
from tests.kafka.conftest import Broker
from tests.pipeline.conftest import spicedb, temporal
from tests.store.conftest import Enqueue, Query, enqueue, query
from tests.worker.conftest import Bench

__all__ = ["enqueue", "query", "spicedb", "temporal"]


class Spans:
    """A tracer, and what it has made."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = provider.get_tracer("test")
        self.watch = Unwatched()
        self.watch.observer = self.observer = Traced(Late(self.tracer), Unobserved())  # type: ignore[assignment]
        self.watch.sent = Relayed(Late(self.tracer))  # type: ignore[method-assign]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def bench(database: str) -> Bench:
    return Bench(database)


def service(database: str, tracer: Tracer, agent: str) -> FastAPI:
    """An application that enqueues in its handler, under a span as an instrumentation makes one."""
    app = FastAPI()

    @app.post("/schedules/{name}")
    async def create(name: str) -> UUID:
        with tracer.start_as_current_span("POST /schedules/{name}", kind=SpanKind.SERVER):
            async with await psycopg.AsyncConnection.connect(database) as connection:
                request = outbox.CreateSchedule(
                    agent_id=agent, name=name, workflow_name="W", task_queue="q", interval_seconds=3600
                )
                principal = outbox.Principal(user_id="alice")
                return (await outbox.enqueue_create(connection, request, principal=principal)).id

    return app


async def post(app: FastAPI, path: str) -> UUID:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return UUID((await client.post(path)).json())


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    found: int = span.parent.span_id
    return found


def w3c(span: ReadableSpan) -> str:
    context = span.context
    assert context is not None
    trace, own = format_trace_id(context.trace_id), format_span_id(context.span_id)
    return f"00-{trace}-{own}-{int(context.trace_flags):02x}"


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    found: int = span.context.span_id
    return found


@pytest.mark.parametrize("wire", ["direct", "kafka"])
async def test_the_spans_of_a_create_lead_from_the_handler_to_the_stores(
    wire: str,
    stack: StackInfo,
    spicedb_schema: None,
    database: str,
    agent: str,
    spans: Spans,
    spicedb: FaultProxy,
    temporal: FaultProxy,
    request: pytest.FixtureRequest,
) -> None:
    del spicedb_schema  # there for its effect
    more = request.getfixturevalue("topics") | {"wire": "kafka"} if wire == "kafka" else {}
    more |= {"spicedb_endpoint": spicedb.address, "temporal_address": temporal.address}
    settings = settings_for(stack, database, **more)
    intent = await post(service(database, spans.tracer, agent), "/schedules/daily")
    async with working(settings, spans):
        result = await outbox.wait(database, intent, timeout=240)
    assert result.event_type == "schedule.created"

    (handler,) = spans.named("POST /schedules/{name}")
    register, create = spans.named("process agent-schedules")
    for attempt, effect in ((register, "register"), (create, "create")):
        about = attempt.attributes or {}
        assert (parent_of(attempt), attempt.kind) == (id_of(handler), SpanKind.CONSUMER)
        assert about["messaging.operation.type"] == "process"
        assert about["messaging.message.id"] == str(intent)
        assert about["messaging.message.conversation_id"] == f"{agent}--daily"
        assert (about["outbox.effect"], about["outbox.outcome"]) == (effect, "done")
    # A workflow of the schedule is found by this and by the schedule's id.
    assert (create.attributes or {})["outbox.workflow_id"] == f"{agent}--daily-run"
    # What the stores' servers do hangs below the calls, by the headers that these carried.
    for proxy, method, attempt in (
        (spicedb, "WriteRelationships", register),
        (temporal, "CreateSchedule", create),
    ):
        (call,) = spans.named(method)
        assert (parent_of(call), call.kind) == (id_of(attempt), SpanKind.CLIENT)
        assert [dict(one.metadata)["traceparent"] for one in proxy.calls(method)] == [w3c(call)]
    settles = spans.named("settle agent-schedules")
    linked = [link.context.span_id for settle in settles for link in settle.links]
    assert linked == [id_of(register), id_of(create)]
    assert {settle.parent for settle in settles} == {None}
    if wire == "kafka":
        assert_carried(Broker(settings), handler)
        sends = spans.named("send agent-schedules")
        assert {link.context.span_id for send in sends for link in send.links} == {id_of(handler)}
        assert {(send.kind, send.parent) for send in sends} == {(SpanKind.CLIENT, None)}


@asynccontextmanager
async def working(settings: Settings, spans: Spans) -> AsyncIterator[None]:
    """A worker works, on the wire that is set; on Kafka's, a relay and a publisher beside it."""
    async with open_worker(settings, watch=spans.watch) as worker:
        task = asyncio.create_task(worker.run())
        if settings.wire == "kafka":
            with psycopg.connect(settings.session_url) as connection:
                connection.execute("UPDATE outbox.instance SET publishes = true")
            async with open_relay(settings, watch=spans.watch) as relay, running(relay):
                yield
            async with open_publisher(settings) as publisher:
                publisher.stop()
                await publisher.run()
        else:
            yield
        worker.stop()
        await task


def assert_carried(broker: Broker, handler: ReadableSpan) -> None:
    """The producer's context travelled unchanged, in dispatches and in CloudEvents."""
    there = w3c(handler).encode()
    for topic, header in (
        ("dispatch.authz", "traceparent"),
        ("events", "ce_traceparent"),
    ):
        records = broker.read(topic)
        assert records
        assert {dict(record.headers)[header] for record in records} == {there}
    broker.close()


TRACE = "ab" * 16
PARENT = f"00-{TRACE}-{'cd' * 8}-01"


async def test_a_retry_is_a_trace_of_its_own_linked_to_the_producer_and_says_what_failed(
    bench: Bench, enqueue: Enqueue, query: Query, spans: Spans
) -> None:
    await enqueue()
    await query("UPDATE outbox.intents SET trace = %s::jsonb", json.dumps({"traceparent": PARENT}))

    def fails_once(dispatch: Dispatch) -> Outcome:
        return Done() if dispatch.attempt > 1 else Transient(ErrorCode.UNREACHABLE, "away", retry_after=0.0)

    bench.effects.behaviour = fails_once
    async with bench.worker(observer=spans.observer) as worker:
        await worker.run()
    first, again, *_ = spans.named("process agent-schedules")
    assert first.parent is not None
    assert format_trace_id(first.parent.trace_id) == TRACE
    assert (first.attributes or {})["error.type"] == "unreachable"
    assert not first.status.is_ok
    assert again.parent is None
    assert [format_trace_id(link.context.trace_id) for link in again.links] == [TRACE]
    assert_exported_whole(first, again)


def assert_exported_whole(*spans: ReadableSpan) -> None:
    """What an exporter sends says what the span does, though OpenTelemetry has not built it."""
    (resource,) = encode_spans(spans).resource_spans
    (scope,) = resource.scope_spans
    for span, sent in zip(spans, scope.spans, strict=True):
        about = {one.key: one.value.string_value or one.value.int_value for one in sent.attributes}
        assert about == dict(span.attributes or {})
        assert (sent.name, sent.start_time_unix_nano) == (span.name, span.start_time)
        assert sent.end_time_unix_nano == span.end_time
        assert [link.trace_id.hex() for link in sent.links] == [
            format_trace_id(link.context.trace_id) for link in span.links
        ]
        assert sent.parent_span_id.hex() == (format_span_id(span.parent.span_id) if span.parent else "")


async def test_an_attempt_long_after_its_request_is_linked_so_that_no_trace_lasts_for_hours(
    bench: Bench, enqueue: Enqueue, query: Query, spans: Spans
) -> None:
    await enqueue()
    (old,) = await query("SELECT outbox.first_id(now() - interval '2 minutes') AS id")
    for table, column in (("intents", "id"), ("events", "intent_id"), ("queue", "intent_id")):
        await query(f"UPDATE outbox.{table} SET {column} = %s", old["id"])
    await query("UPDATE outbox.intents SET trace = %s::jsonb", json.dumps({"traceparent": PARENT}))
    async with bench.worker(observer=spans.observer) as worker:
        await worker.run()
    for span in spans.named("process agent-schedules"):
        assert span.parent is None
        assert [format_trace_id(link.context.trace_id) for link in span.links] == [TRACE]


async def test_every_line_that_is_logged_of_an_attempt_names_it_and_its_trace(
    bench: Bench, enqueue: Enqueue, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent = await enqueue()
    await query("UPDATE outbox.intents SET trace = %s::jsonb", json.dumps({"traceparent": PARENT}))
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    set_up_logs(verbose=True)
    async with bench.worker() as worker:
        await worker.run()
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    steps = [line for line in lines if line["event"] == "step.done"]
    assert [line["step"] for line in steps] == ["schedule.create.requested", "schedule.registered"]
    for line in steps:
        assert (line["intent_id"], line["attempt"], line["trace_id"]) == (str(intent), 1, TRACE)


class Asked(Sampler):
    """As the producer has it; remembers what it was asked about, and adds a word."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def should_sample(self, *asked: Any, **more: Any) -> SamplingResult:
        result: SamplingResult = DEFAULT_ON.should_sample(*asked, **more)
        self.names.append(asked[2])
        return SamplingResult(result.decision, {**result.attributes, "by": "us"}, result.trace_state)

    def get_description(self) -> str:
        return "asked"


@pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("00", False)])
async def test_the_sampler_is_asked_for_each_attempt_and_what_it_drops_still_leads_on(
    flags: str, *, sampled: bool, bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    producer = f"00-{TRACE}-{'cd' * 8}-{flags}"
    trace = {"traceparent": producer, "tracestate": "vendor=1"}
    await query("UPDATE outbox.intents SET trace = %s::jsonb", json.dumps(trace))
    sampler = Asked()
    spans = Spans(sampler)
    sent: list[Mapping[str, str]] = []

    def calls(_: Dispatch) -> Outcome:
        with current.calling("spicedb", "Write", {"x-account-id": "a", **trace}) as headers:
            sent.append(headers)
        return Done()

    bench.effects.behaviour = calls
    async with bench.worker(observer=spans.observer) as worker:
        await worker.run()
    assert sampler.names.count("process agent-schedules") == 2
    attempts = spans.named("process agent-schedules")
    assert [(one.attributes or {})["by"] for one in attempts] == ["us"] * (2 if sampled else 0)
    assert len(spans.named("Write")) == len(attempts)
    for headers in sent:
        version, trace_id, _, its_flags = headers["traceparent"].split("-")
        assert (version, trace_id, its_flags) == ("00", TRACE, flags)
        assert (headers["tracestate"], headers["x-account-id"]) == ("vendor=1", "a")
        assert headers["traceparent"] != producer


class Stuck:
    """An exporter whose collector never answers."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.release = threading.Event()

    def export(self, _: Any) -> SpanExportResult:
        self.asked.set()
        self.release.wait()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.release.set()

    def force_flush(self, _: int = 0) -> bool:
        return True


async def test_an_exporter_that_hangs_with_a_full_queue_stops_no_step(bench: Bench, enqueue: Enqueue) -> None:
    for place in range(12):
        await enqueue(f"s{place}")
    exporter: Any = Stuck()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=4, max_export_batch_size=2))
    try:
        observer = Traced(Late(provider.get_tracer("test")), Unobserved())
        async with bench.worker(observer=observer) as worker:
            await worker.run()
        assert exporter.asked.is_set()
        assert worker.summary()["advance"] == 24
    finally:
        exporter.release.set()
        provider.shutdown()


async def test_a_collector_that_says_nothing_holds_the_end_of_a_process_up_for_two_seconds_at_most(
    monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with watching(Settings.model_validate({"database_url": database})) as watch:
            assert isinstance(watch.observer, Traced)
            began = time.monotonic()
    # It would be ten for each of the two exporters.
    assert time.monotonic() - began < 10


async def test_an_exporter_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "pigeon")
    with pytest.raises(ValueError, match="OTEL_TRACES_EXPORTER asks for pigeon"):
        async with watching(Settings.model_validate({})):
            pass
