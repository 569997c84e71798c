"""What every call to a store carries, and what its failure means where it was a read, or a look."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from consumers.calls import (
    MESSAGE_LIMIT,
    Call,
    StoreFailure,
    cause_stands,
    in_doubt,
    method_of,
    one_line,
    read_patiently,
    undecided,
    without_doubt,
)
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Dispatch
from outbox.flow.outcome import Conflict, Failure, Misconfigured, Refused, Transient, Unknown
from outbox.flow.table import EventType, Kind
from tests.simulation.loop import SimulatedLoop

PASSING = {ErrorCode.TIMED_OUT, ErrorCode.CONNECTION_LOST, ErrorCode.OVERLOADED}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FAILURES = [
    Transient(ErrorCode.OVERLOADED, "busy", retry_after=3.0),
    Unknown(ErrorCode.TIMED_OUT, "silent", waits=True),
    Refused(ErrorCode.REFUSED, "no"),
    Conflict(ErrorCode.CONFLICT_FOREIGN, "theirs"),
    Misconfigured(ErrorCode.MISCONFIGURED, "token"),
]


def dispatch(**more: object) -> Dispatch:
    event = EventType.REGISTERED
    return Dispatch(UUID(int=7), "a--n", Kind.CREATE, event, 1, 1, deadline=5.0, **more)  # type: ignore[arg-type]


def simulated(going: Callable[[], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        return await going()

    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(1)) as runner:
        return runner.run(run())


class TestMetadata:
    def test_a_dispatchs_trace_travels_and_nothing_else_of_it(self) -> None:
        call = Call.of(dispatch(trace={"Traceparent": PARENT, "tracestate": "a=1", "secret": "x"}))
        assert call == Call(5.0, {"traceparent": PARENT, "tracestate": "a=1"})
        assert Call.of(dispatch()) == Call(5.0, {})

    @pytest.mark.parametrize("value", ["a=ü", "a=\n", "a=\x7f"])
    def test_what_grpc_would_choke_on_stays_behind(self, value: str) -> None:
        assert Call.of(dispatch(trace={"traceparent": PARENT, "tracestate": value})).metadata == {
            "traceparent": PARENT
        }

    def test_outside_a_dispatch_there_is_none_until_it_is_added(self) -> None:
        async def call() -> Call:
            return Call.within(7.0)

        assert simulated(call) == Call(7.0, {})
        assert simulated(call).with_header("a", "1") == Call(7.0, {"a": "1"})

    def test_a_header_is_added_to_the_others(self) -> None:
        assert Call(5.0, {"a": "1"}).with_header("b", "2") == Call(5.0, {"a": "1", "b": "2"})


class TestDeadline:
    def test_a_call_may_take_what_is_left(self) -> None:
        async def budgets() -> list[float]:
            await asyncio.sleep(3)
            calls = Call(5.0), Call(3.25), Call.within(7.0)
            return [call.budget("temporal") for call in calls]

        assert simulated(budgets) == [2.0, 0.25, 7.0], "however little that is"

    @pytest.mark.parametrize("deadline", [0.0, -1.0])
    def test_none_is_sent_at_the_deadline_or_later(self, deadline: float) -> None:
        async def late() -> None:
            Call(deadline).budget("temporal")

        with pytest.raises(StoreFailure) as failure:
            simulated(late)
        assert failure.value.outcome == Transient(
            ErrorCode.TIMED_OUT, "temporal: the deadline passed before the call was sent"
        )
        assert str(failure.value) == "temporal: the deadline passed before the call was sent"


class TestPatience:
    """A read is tried three times in all, a second apart, each with a deadline of its own."""

    def read(self, *failures: ErrorCode) -> tuple[list[float], object]:
        came = iter(failures)
        deadlines: list[float] = []

        async def read(call: Call) -> str:
            deadlines.append(call.deadline)
            if (code := next(came, None)) is not None:
                raise StoreFailure(Transient(code, "x"))
            return "read"

        async def going() -> object:
            try:
                return await read_patiently(read, seconds=4.0)
            except StoreFailure as failure:
                return failure.outcome.code

        return deadlines, simulated(going)

    @pytest.mark.parametrize("code", sorted(PASSING))
    def test_what_passes_is_tried_again(self, code: ErrorCode) -> None:
        assert self.read(code, code) == ([4.0, 5.0, 6.0], "read")
        assert self.read(code, code, code) == ([4.0, 5.0, 6.0], code)

    @pytest.mark.parametrize(
        "code",
        sorted(set(ErrorCode) - {ErrorCode.TIMED_OUT, ErrorCode.CONNECTION_LOST, ErrorCode.OVERLOADED}),
    )
    def test_what_does_not_pass_is_told_at_once(self, code: ErrorCode) -> None:
        assert self.read(code) == ([4.0], code)

    def test_what_is_read_at_once_is_read_once(self) -> None:
        assert self.read() == ([4.0], "read")


class TestMessages:
    def test_a_message_is_one_line_and_says_whose(self) -> None:
        assert one_line("spicedb", " it \n broke\t down ") == "spicedb: it broke down"
        assert one_line("spicedb", "") == "spicedb: no reason given"

    def test_it_has_no_credential(self) -> None:
        ours = "abc-123"
        told = one_line("spicedb", f"token {ours}, again {ours}", secret=ours)
        assert told == "spicedb: token ***, again ***"
        assert one_line("spicedb", "said BEARER abc.def here") == "spicedb: said Bearer *** here"

    def test_it_is_bounded_and_keeps_the_hint(self) -> None:
        assert one_line("spicedb", "x", see="OUTBOX_SPICEDB_TOKEN") == "spicedb: x (see OUTBOX_SPICEDB_TOKEN)"
        long = one_line("spicedb", "x" * 1000, see="OUTBOX_SPICEDB_TOKEN")
        assert len(long) == MESSAGE_LIMIT == 500
        assert long.endswith("x (see OUTBOX_SPICEDB_TOKEN)")
        assert len(one_line("spicedb", "x" * 1000)) == MESSAGE_LIMIT


class TestDoubt:
    @pytest.mark.parametrize("failure", FAILURES)
    def test_a_read_leaves_nothing_in_doubt(self, failure: Failure) -> None:
        unknown = isinstance(failure, Unknown)
        assert without_doubt(failure) == (Transient(failure.code, failure.message) if unknown else failure)

    @pytest.mark.parametrize("failure", FAILURES)
    def test_a_look_that_fails_leaves_what_was_written_in_doubt(self, failure: Failure) -> None:
        assert in_doubt(failure) == Unknown(failure.code, failure.message)

    @pytest.mark.parametrize("failure", FAILURES)
    def test_a_look_that_fails_is_taken_again(self, failure: Failure) -> None:
        wrong = isinstance(failure, Misconfigured)
        assert undecided(failure) == (failure if wrong else Transient(failure.code, failure.message))

    def test_a_look_that_finds_nothing_lets_stand_what_stood_against_the_intent(self) -> None:
        stands = Cause(ErrorCode.CONFLICT_LIVE, "exists")
        assert cause_stands(dispatch(cause=stands), ErrorCode.REFUSED) == Refused(
            ErrorCode.CONFLICT_LIVE, "exists"
        )
        assert cause_stands(dispatch(), ErrorCode.REFUSED) == Refused(
            ErrorCode.REFUSED, "nothing of ours was found in the store"
        )


def test_a_request_names_its_method() -> None:
    class DescribeScheduleRequest:
        pass

    assert method_of(DescribeScheduleRequest()) == "DescribeSchedule"
