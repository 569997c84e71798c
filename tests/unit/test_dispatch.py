"""What a dispatch says of itself."""

import asyncio
from uuid import UUID

import pytest

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Creator, Dispatch, Standing
from outbox.flow.table import STEPS, Consumer, Effect, EventType, Kind
from tests.simulation.loop import SimulatedLoop

TRACE = "ab" * 16
KNOWN = {
    "intent_id": "00000000-0000-0000-0000-000000000007",
    "schedule_id": "a--n",
    "step": "schedule.registered",
    "attempt": 2,
}


def dispatch(event: EventType = EventType.REGISTERED, kind: Kind = Kind.CREATE, **more: object) -> Dispatch:
    return Dispatch(UUID(int=7), "a--n", kind, event, 4, 2, deadline=12.5, **more)  # type: ignore[arg-type]


def test_of_what_it_does_not_name_nothing_is_so() -> None:
    plain = dispatch()
    assert (plain.strikes, plain.patience, plain.generation) == (0, 0.0, "1")
    flags = {plain.unknown, plain.look, plain.live_adopted, plain.ran_out, plain.adopts, plain.is_discarded}
    assert flags == {False}
    assert {plain.cause, plain.live_intent, plain.revision, plain.reclaims, plain.trace_id} == {None}
    assert (plain.request, plain.trace, plain.run, plain.changes) == ({}, {}, (), frozenset())
    assert plain.creator == Creator(user_id=None, service_account_id=None, account_id=None)


@pytest.mark.parametrize("event", list(STEPS))
def test_its_step_is_the_flows(event: EventType) -> None:
    assert dispatch(event).step is STEPS[event]
    assert dispatch(event).consumer is STEPS[event].consumer


def test_a_create_is_temporals_once_it_is_registered() -> None:
    assert (dispatch().step.effect, dispatch().consumer) == (Effect.CREATE, Consumer.TEMPORAL)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(("adopt", "adopts"), [(True, True), (False, False), (None, False), ("yes", False)])
def test_a_repair_that_was_asked_to_adopts_and_nothing_else(
    kind: Kind, adopt: object, *, adopts: bool
) -> None:
    assert dispatch(kind=kind, request={"adopt": adopt}).adopts is (adopts and kind is Kind.REPAIR)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_repair_that_was_asked_to_reclaims_and_nothing_else(kind: Kind) -> None:
    reclaims = dispatch(kind=kind, request={"reclaim": "a stamp"}).reclaims
    assert reclaims == ("a stamp" if kind is Kind.REPAIR else None)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_it_is_discarded_by_its_cause(code: ErrorCode) -> None:
    assert dispatch(cause=Cause(code, "x")).is_discarded is (code is ErrorCode.DISCARDED)


@pytest.mark.parametrize(
    ("traceparent", "trace"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", TRACE),
        (f"00-{TRACE}-b7", None),
        (f"{TRACE}-1-2-3-4", None),
        ("", None),
    ],
)
def test_its_trace_is_that_of_the_producers_span(traceparent: str, trace: str | None) -> None:
    assert dispatch(trace={"traceparent": traceparent}).trace_id == trace


def test_what_the_log_says_of_it() -> None:
    assert dispatch().about() == KNOWN
    traced = dispatch(trace={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    assert traced.about() == KNOWN | {"trace_id": TRACE}


def test_what_remains_runs_out_at_the_deadline() -> None:
    async def left() -> list[float]:
        now = dispatch().remaining()
        await asyncio.sleep(20)
        return [now, dispatch().remaining()]

    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(1)) as runner:
        assert runner.run(left()) == [12.5, -7.5]


def test_what_a_stamp_is_is_named_as_the_ledgers_function_answers() -> None:
    assert list(Standing) == ["ended", "live", "foreign"]
