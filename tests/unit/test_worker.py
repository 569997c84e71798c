"""The worker's loop and its settler, in simulated time: what they take, how steps come out, how they end."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import structlog
from sqlalchemy.exc import OperationalError, ProgrammingError
from structlog.testing import capture_logs

from outbox import clock, current, failpoints, pulse
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Dispatch
from outbox.flow.outcome import Done, Outcome, Refused, Transient, Unknown
from outbox.flow.settlement import Action, RetryPolicy, Settlement, decide, park
from outbox.flow.table import Consumer, EventType, Kind
from outbox.settings import Settings
from outbox.store.work import Settled
from outbox.worker.loop import Worker, WorkerOptions
from outbox.worker.settler import Settler
from outbox.worker.source import DirectSource
from outbox.worker.wake import WakeSignal
from tests.simulation.loop import SimulatedLoop

POLICY = RetryPolicy(base_seconds=1.0, cap_seconds=8.0, max_strikes=3)
CREATE = Dispatch(UUID(int=1), "a--s", Kind.CREATE, EventType.CREATE_REQUESTED, 1, 1, deadline=1e9)


class AwayError(Exception):
    """What a driver raises, with its state."""

    sqlstate: str | None = None


class DeniedError(AwayError):
    sqlstate = "42501"


def steps(many: int, **fields: Any) -> list[Dispatch]:
    return [replace(CREATE, intent_id=UUID(int=number), **fields) for number in range(1, many + 1)]


def refuses(error: AwayError) -> Callable[[], Any]:
    def refuse() -> None:
        kind = OperationalError if error.sqlstate is None else ProgrammingError
        raise kind("statement", {}, error)

    return refuse


def simulated(going: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(1)) as runner, capture_logs():
        return runner.run(going())


class Postgres:
    """Hands out what the test says, keeps what is settled, and is away when the test says so.

    Attributes:
        claims: what each claim brings, or does; then nothing.
        follows: what each settle hands over; then nothing.
        before: what happens before each settle; then nothing.
    """

    def __init__(self, *claims: Sequence[Dispatch] | Callable[[], Any]) -> None:
        self.claims = list(claims)
        self.follows: list[Sequence[Dispatch]] = []
        self.before: list[Callable[[], Any]] = []
        self.matches: Callable[[Settlement], bool] = lambda _: True
        self.asked: list[tuple[float, Mapping[Consumer, int]]] = []
        self.settled: list[tuple[float, Settlement]] = []
        self.batches: list[int] = []
        self.rooms: list[Mapping[Consumer, int]] = []
        self.wakes: set[bool] = set()
        self.left: list[bool | Callable[[], Any]] = []
        self.asked_for_repairs: list[bool] = []

    async def claim(self, limits: Mapping[Consumer, int]) -> list[Dispatch]:
        self.asked.append((clock.monotonic(), dict(limits)))
        brings = self.claims.pop(0) if self.claims else []
        return list(brings()) if callable(brings) else list(brings)

    async def pending(self, *, repairs: bool) -> bool:
        self.asked_for_repairs.append(repairs)
        left = self.left.pop(0) if self.left else False
        return bool(left()) if callable(left) else left

    async def settle(
        self, settlements: Sequence[Settlement], *, room: Mapping[Consumer, int], wake: bool = False
    ) -> Settled:
        if self.before:
            happens = self.before.pop(0)()
            if asyncio.iscoroutine(happens):
                await happens
        self.settled += [(clock.monotonic(), one) for one in settlements]
        self.batches.append(len(settlements))
        self.rooms.append(dict(room))
        self.wakes.add(wake)
        matched = {(one.intent_id, one.lease_number) for one in settlements if self.matches(one)}
        return Settled(matched, self.follows.pop(0) if self.follows else ())

    def outcomes(self) -> list[tuple[Action, ErrorCode | None, str | None]]:
        return [(one.action, one.error_code, one.error_message) for _, one in self.settled]


class Notifies:
    on_wake: Callable[[], None]


class Effects:
    """Come out as the test says: by an outcome, an error, or in their own time."""

    def __init__(self, outcome: Outcome | Callable[[Dispatch], Any] = Done()) -> None:  # noqa: B008 - frozen
        self._outcome = outcome
        self.applied: list[Dispatch] = []
        self.looked: list[Dispatch] = []
        self.logged: list[object] = []

    async def apply(self, dispatch: Dispatch) -> Outcome:
        self.applied.append(dispatch)
        self.logged.append(current.attempt.get())
        answer = self._outcome(dispatch) if callable(self._outcome) else self._outcome
        outcome: Outcome = await answer if asyncio.iscoroutine(answer) else answer
        return outcome

    async def look(self, dispatch: Dispatch) -> Outcome:
        self.looked.append(dispatch)
        return Done()


class Watching:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def took(self, dispatches: Sequence[Dispatch], seconds: float) -> None:
        self.told.append(("took", len(dispatches), seconds))

    def began(self, dispatch: Dispatch) -> None:
        self.told.append(("began", dispatch))

    def attempted(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        self.told.append(("attempted", dispatch, outcome, seconds))

    def settled(self, batch: Sequence[Settlement], settled: Settled, seconds: float) -> None:
        self.told.append(("settled", len(batch), len(settled.matched), seconds))


class Broken(Watching):
    """Has a defect, which shows when it is told how an attempt at one of the steps came out."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = UUID(int=at)

    def attempted(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        super().attempted(dispatch, outcome, seconds)
        if dispatch.intent_id == self._at:
            raise LookupError("a defect")


def worker(
    postgres: Postgres,
    effects: Effects,
    *,
    concurrency: int = 4,
    serves: Sequence[Consumer] = tuple(Consumer),
    observer: Watching | None = None,
    relayed: bool = False,
    jitter: random.Random | None = None,
    **options: Any,
) -> Worker:
    how = {"poll_seconds": 5.0, "drain_seconds": 10.0, "until_idle": True} | options
    source = DirectSource(postgres, Notifies())
    source.relayed = relayed
    return Worker(
        source,
        postgres,
        dict.fromkeys(serves, effects),
        WorkerOptions(dict.fromkeys(serves, concurrency), POLICY, **how),
        jitter=jitter,
        observer=observer,
    )


def after(seconds: float, outcome: Outcome) -> Callable[[Dispatch], Any]:
    async def comes(_: Dispatch) -> Outcome:
        await asyncio.sleep(seconds)
        return outcome

    return comes


class TestHowAStepComesOut:
    def run(self, one: Dispatch, outcome: Any) -> tuple[Postgres, Effects]:
        postgres, effects = Postgres([one]), Effects(outcome)
        simulated(worker(postgres, effects).run)
        return postgres, effects

    def test_as_its_effect_says(self) -> None:
        for outcome in (Done("token"), Refused(ErrorCode.REFUSED, "no")):
            postgres, effects = self.run(CREATE, outcome)
            assert effects.applied == [CREATE]
            assert [one for _, one in postgres.settled] == [decide(CREATE, outcome, POLICY, random.Random(1))]

    @pytest.mark.parametrize(
        ("outcome", "line"),
        [
            (Done(), {"event": "step.done", "log_level": "debug"}),
            (
                Transient(ErrorCode.OVERLOADED, "busy"),
                {
                    "event": "step.failed",
                    "log_level": "info",
                    "outcome": "transient",
                    "code": "overloaded",
                    "error": "busy",
                },
            ),
        ],
    )
    def test_it_is_told_to_the_log(self, outcome: Outcome, line: dict[str, str]) -> None:
        async def going() -> list[Any]:
            with capture_logs() as logs:
                await worker(Postgres([CREATE]), Effects(outcome)).run()
            return logs

        assert simulated(going) == [line]

    @pytest.mark.parametrize("jitter", [None, random.Random(7)])
    def test_tried_again_it_waits_as_long_as_the_dice_say(self, jitter: random.Random | None) -> None:
        postgres = Postgres([replace(CREATE, attempt=3)])
        simulated(worker(postgres, Effects(Unknown(ErrorCode.TIMED_OUT, "?")), jitter=jitter).run)
        [(_, settled)] = postgres.settled
        assert 2.0 <= settled.delay_seconds <= 4.0
        if jitter is not None:
            assert settled.delay_seconds == POLICY.delay(3, random.Random(7))

    def test_what_is_to_be_looked_at_is_not_applied(self) -> None:
        looks = replace(CREATE, look=True)
        postgres, effects = self.run(looks, Refused(ErrorCode.REFUSED, "no"))
        assert (effects.applied, effects.looked) == ([], [looks])
        assert postgres.outcomes() == [(Action.ADVANCE, None, None)]

    def test_without_an_answer_by_its_deadline(self) -> None:
        postgres, _ = self.run(replace(CREATE, deadline=3.0), after(60, Done()))
        told = (Action.RETRY, ErrorCode.TIMED_OUT, "no answer before the step's deadline")
        assert postgres.outcomes() == [told]
        assert [(at, one.unknown) for at, one in postgres.settled] == [(3.0, True)]

    @pytest.mark.parametrize("deadline", [0.0, -5.0])
    def test_past_its_deadline_it_is_not_waited_for(self, deadline: float) -> None:
        postgres, _ = self.run(replace(CREATE, deadline=deadline), after(60, Done()))
        assert [(at, one.error_code) for at, one in postgres.settled] == [(0.0, ErrorCode.TIMED_OUT)]

    def test_by_an_error_that_nobody_expected(self) -> None:
        def raises(_: Dispatch) -> Outcome:
            raise KeyError("x" * 1000)

        postgres = Postgres([CREATE])

        async def going() -> list[Any]:
            with capture_logs() as logs:
                await worker(postgres, Effects(raises)).run()
            return [line["event"] for line in logs if line.get("exc_info")]

        assert simulated(going) == ["step.unexpected"]
        [(action, code, message)] = postgres.outcomes()
        assert (action, code) == (Action.RETRY, ErrorCode.UNEXPECTED)
        assert message == ("KeyError: '" + "x" * 1000)[:500]
        assert postgres.settled[0][1].unknown

    def test_as_postgres_is_away_when_an_effect_asks_the_ledger(self) -> None:
        long = "the connection is lost " * 50
        postgres, _ = self.run(CREATE, lambda _: refuses(AwayError(long))())
        [(action, code, message)] = postgres.outcomes()
        assert (action, code) == (Action.RETRY, ErrorCode.CONNECTION_LOST)
        assert message == f"postgres: {long}"[:500]
        assert postgres.settled[0][1].unknown
        assert not postgres.settled[0][1].strike

    def test_by_what_postgres_refuses_an_effect_that_asks_the_ledger(self) -> None:
        postgres, _ = self.run(CREATE, lambda _: refuses(DeniedError("denied"))())
        assert [one.error_code for _, one in postgres.settled] == [ErrorCode.UNEXPECTED]

    @pytest.mark.parametrize("strikes", [3, 4])
    def test_once_its_workers_died_too_often_it_is_parked_unapplied(self, strikes: int) -> None:
        killer = replace(CREATE, strikes=strikes)
        postgres, effects = self.run(killer, Done())
        cause = Cause(ErrorCode.LEASE_EXPIRED, "every worker that took the step died or stalled")
        assert [one for _, one in postgres.settled] == [park(killer, cause)]
        assert effects.applied == []

    def test_before_that_it_is_tried(self) -> None:
        assert self.run(replace(CREATE, strikes=2), Done())[1].applied

    def test_what_is_logged_meanwhile_belongs_to_it(self) -> None:
        assert self.run(CREATE, Done())[1].logged == [CREATE]

    @pytest.mark.parametrize(
        ("level", "told"),
        [
            (logging.DEBUG, ["step.done", "step.failed"]),
            (logging.INFO, ["step.failed"]),
            (logging.WARNING, []),
        ],
    )
    def test_the_log_has_what_its_level_asks_for(self, level: int, told: list[str]) -> None:
        def comes_out(one: Dispatch) -> Outcome:
            return Done() if one.intent_id.int == 1 else Transient(ErrorCode.OVERLOADED, "busy")

        async def going() -> list[str]:
            with capture_logs() as logs:
                await worker(Postgres(steps(2)), Effects(comes_out)).run()
            return sorted(line["event"] for line in logs)

        before = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
        try:
            assert simulated(going) == told
        finally:
            structlog.configure(**before)


def test_a_step_passes_the_failpoints_in_their_order() -> None:
    passed: list[tuple[str, int]] = []
    postgres, effects = Postgres([CREATE]), Effects()

    def trap(point: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def note() -> None:
            if postgres.asked[-1][0] == clock.monotonic() == 0.0 and len(postgres.asked) == 1:
                passed.append((point, len(effects.applied) + len(postgres.settled)))

        return note

    points = ["take.after", "apply.before", "apply.after", "decide.before", "settle.before", "settle.after"]
    for point in points:
        failpoints.arm(point, trap(point))
    try:
        simulated(worker(postgres, effects).run)
    finally:
        for point in points:
            failpoints.disarm(point)
    # With each how much has been done by then: applied is one, settled another.
    assert passed == list(zip(points, [0, 0, 1, 1, 1, 2], strict=True))


class TestWhatItTakes:
    def test_as_much_as_it_has_room_for_and_at_once_again_while_there_is_more(self) -> None:
        postgres = Postgres(steps(4), steps(2))
        simulated(worker(postgres, Effects(after(1, Done())), serves=[Consumer.AUTHZ]).run)
        assert [many.get(Consumer.AUTHZ) for at, many in postgres.asked if at == 0] == [4]
        assert len(postgres.settled) == 6
        assert max(at for at, _ in postgres.asked) == 2.0, "nothing is polled for while steps are under way"

    def test_where_nothing_is_to_do_it_asks_again_after_its_time(self) -> None:
        postgres = Postgres([], [], steps(1))
        postgres.left = [True, True]
        simulated(worker(postgres, Effects()).run)
        assert [at for at, _ in postgres.asked][:3] == [0.0, 5.0, 10.0]
        assert len(postgres.settled) == 1

    def test_where_postgres_is_away_it_says_so_and_asks_again_after_a_second(self) -> None:
        postgres = Postgres(refuses(AwayError("gone")), steps(1))
        postgres.left = [True]

        async def going() -> list[Any]:
            with capture_logs() as logs:
                await worker(postgres, Effects(), poll_seconds=600.0).run()
            return [(line["event"], line["reason"]) for line in logs if line["log_level"] == "warning"]

        assert simulated(going) == [("take.postponed", "gone")]
        assert [at for at, _ in postgres.asked][:2] == [0.0, 1.0], "however rarely it polls"
        assert len(postgres.settled) == 1

    def test_where_postgres_can_not_be_used_it_ends(self) -> None:
        with pytest.raises(ProgrammingError):
            simulated(worker(Postgres(refuses(DeniedError("no"))), Effects()).run)

    @pytest.mark.parametrize("serves", [tuple(Consumer), (Consumer.AUTHZ,)])
    def test_it_is_idle_when_nothing_is_left_for_it(self, serves: Sequence[Consumer]) -> None:
        postgres = Postgres()
        postgres.left = [True, refuses(AwayError("gone")), False]
        simulated(worker(postgres, Effects(), serves=serves).run)
        assert [at for at, _ in postgres.asked] == [0.0, 5.0, 10.0]
        assert set(postgres.asked_for_repairs) == {Consumer.BOTH in serves}

    def test_asked_whether_anything_is_left_a_postgres_that_can_not_be_used_ends_it(self) -> None:
        postgres = Postgres()
        postgres.left = [refuses(DeniedError("no"))]
        with pytest.raises(ProgrammingError):
            simulated(worker(postgres, Effects()).run)

    def test_without_being_asked_to_it_never_ends_by_itself(self) -> None:
        async def going() -> bool:
            working = asyncio.create_task((one := worker(Postgres(), Effects(), until_idle=False)).run())
            await asyncio.sleep(1000)
            ended = working.done()
            one.stop()
            await working
            return ended

        assert simulated(going) is False

    def test_what_follows_is_handed_over_and_worked_on(self) -> None:
        second = replace(CREATE, event_type=EventType.REGISTERED, lease_number=2)
        postgres, effects = Postgres([CREATE]), Effects()
        postgres.follows = [[second]]
        one = worker(postgres, effects)
        simulated(one.run)
        assert effects.applied == [CREATE, second]
        assert postgres.rooms[0] == {Consumer.AUTHZ: 2, Consumer.TEMPORAL: 2, Consumer.BOTH: 2}
        assert one.summary() == {"advance": 2, "retry": 0, "hold": 0, "park": 0, "dropped": 0}
        assert set(one.in_flight().values()) == {0}

    def test_where_a_claim_brings_all_that_it_may_it_claims_at_once_what_it_left(self) -> None:
        temporal, both = EventType.REGISTERED, EventType.REPAIR_REQUESTED
        many = steps(4), steps(4, event_type=temporal), steps(4, event_type=both, kind=Kind.REPAIR)
        postgres = Postgres(steps(4), [step for kind in many for step in kind])
        one = worker(postgres, Effects(after(60, Done())), concurrency=8, poll_seconds=1.0, until_idle=False)

        async def going() -> None:
            working = asyncio.create_task(one.run())
            await asyncio.sleep(1.5)
            one.stop()
            await working

        simulated(going)
        assert postgres.asked == [
            (0.0, {Consumer.AUTHZ: 8, Consumer.TEMPORAL: 8, Consumer.BOTH: 8}),
            (1.0, {Consumer.AUTHZ: 4, Consumer.TEMPORAL: 4, Consumer.BOTH: 4}),
            (1.0, {Consumer.TEMPORAL: 4, Consumer.BOTH: 4}),
        ]

    def test_it_looks_for_more_only_when_a_step_is_followed_by_none(self) -> None:
        postgres = Postgres([CREATE])
        postgres.follows = [[replace(CREATE, event_type=EventType.REGISTERED, lease_number=2)]]
        one = worker(postgres, Effects(after(1, Done())), until_idle=False)

        async def going() -> None:
            working = asyncio.create_task(one.run())
            await asyncio.sleep(3)
            one.stop()
            await working

        simulated(going)
        assert [at for at, _ in postgres.asked] == [0.0, 2.0]

    @pytest.mark.parametrize(
        ("serves", "relayed", "wakes"),
        [
            ((Consumer.AUTHZ, Consumer.TEMPORAL), False, False),
            (tuple(Consumer), False, False),
            ((Consumer.AUTHZ,), False, True),
            ((Consumer.TEMPORAL,), False, True),
            (tuple(Consumer), True, True),
        ],
    )
    def test_who_else_applies_what_follows_is_woken(
        self, serves: Sequence[Consumer], *, relayed: bool, wakes: bool
    ) -> None:
        event = EventType.CREATE_REQUESTED if Consumer.AUTHZ in serves else EventType.REGISTERED
        postgres = Postgres([replace(CREATE, event_type=event)])
        simulated(worker(postgres, Effects(), serves=serves, relayed=relayed).run)
        assert postgres.wakes == {wakes}


class TestHowItEnds:
    def stopped(self, one: Worker, *, at: float) -> float:
        """Tell it to stop at a time; tell when it had ended."""

        async def going() -> float:
            working = asyncio.create_task(one.run())
            await asyncio.sleep(at)
            one.stop()
            await working
            return clock.monotonic()

        ended: float = simulated(going)
        return ended

    def test_told_to_stop_it_lets_steps_finish_and_takes_no_more(self) -> None:
        postgres = Postgres([CREATE], steps(1))
        one = worker(postgres, Effects(after(8, Done())), until_idle=False)

        async def going() -> tuple[float, bool, bool, int]:
            working = asyncio.create_task(one.run())
            await asyncio.sleep(1)
            under_way, before = one.in_flight()[Consumer.AUTHZ], one.draining
            one.stop()
            await working
            return clock.monotonic(), before, one.draining, under_way

        closed: list[float] = []
        one._source.close = lambda: closed.append(clock.monotonic())  # type: ignore[method-assign]
        assert simulated(going) == (8.0, False, True, 1)
        assert closed == [1.0], "what waits in its source is for others, at once"
        assert postgres.outcomes() == [(Action.ADVANCE, None, None)]
        assert postgres.rooms == [{}], "what follows is for others"

    def test_what_a_settle_under_way_hands_over_is_worked_on(self) -> None:
        second = replace(CREATE, event_type=EventType.REGISTERED, lease_number=2)
        postgres, effects = Postgres([CREATE]), Effects()
        postgres.before, postgres.follows = [lambda: asyncio.sleep(3)], [[second]]
        one = worker(postgres, effects, until_idle=False)

        async def going() -> float:
            working = asyncio.create_task(one.run())
            await asyncio.sleep(1)
            one.stop()
            await working
            return clock.monotonic()

        assert simulated(going) == 3.0
        assert effects.applied == [CREATE, second]
        assert [at for at, _ in postgres.settled] == [3.0, 3.0]

    def test_a_settle_under_way_that_hands_nothing_over_ends_it(self) -> None:
        postgres = Postgres([CREATE])
        postgres.before = [lambda: asyncio.sleep(3)]
        assert self.stopped(worker(postgres, Effects(), until_idle=False), at=1) == 3.0
        assert [at for at, _ in postgres.settled] == [3.0]

    def test_each_step_gets_all_of_the_time_however_the_others_end(self) -> None:
        def takes(one: Dispatch) -> Any:
            return after({1: 10.5, 2: 10.75}[one.intent_id.int], Done())(one)

        postgres = Postgres(steps(2))
        assert self.stopped(worker(postgres, Effects(takes), until_idle=False), at=1) == 10.75
        assert postgres.outcomes() == [(Action.ADVANCE, None, None)] * 2

    def test_a_step_that_dies_by_a_defect_is_not_waited_for(self) -> None:
        one = worker(Postgres([CREATE]), Effects(after(3, Done())), observer=Broken(1), until_idle=False)
        ended: list[float] = []

        async def going() -> None:
            try:
                await one.run()
            finally:
                ended.append(clock.monotonic())

        with pytest.raises(LookupError, match="a defect"):
            simulated(going)
        assert ended == [3.0]

    def test_a_defect_in_a_step_that_is_cut_off_costs_no_other_its_outcome(self) -> None:
        postgres = Postgres(steps(2))
        postgres.before = [lambda: asyncio.sleep(60)]
        one = worker(postgres, Effects(after(60, Done())), observer=Broken(2), until_idle=False)
        with pytest.raises(LookupError, match="a defect"):
            self.stopped(one, at=1)
        assert [(one.intent_id.int, one.error_code) for _, one in postgres.settled] == [
            (1, ErrorCode.RELEASED)
        ]

    def test_a_defect_once_a_step_is_settled_ends_it_though_nothing_is_left(self) -> None:
        class Slow(Postgres):
            async def claim(self, limits: Mapping[Consumer, int]) -> list[Dispatch]:
                await asyncio.sleep(1)
                return await super().claim(limits)

        # It can be settled, and not told: what it says is no code.
        odd = Transient("odd", "busy")  # type: ignore[arg-type]
        postgres = Slow([CREATE])
        # Settled while the next claim is under way, which brings nothing more.
        one = worker(postgres, Effects(after(0.5, odd)), poll_seconds=0.25)
        with pytest.raises(AttributeError):
            simulated(one.run)
        assert [at for at, _ in postgres.settled] == [1.5]

    def test_a_settle_that_is_cut_off_is_over_before_it_is_written_again(self) -> None:
        async def hangs() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                # The rollback.
                await asyncio.sleep(2)

        postgres = Postgres([CREATE])
        postgres.before = [hangs]
        assert self.stopped(worker(postgres, Effects(), until_idle=False), at=1) == 13.0
        assert [at for at, _ in postgres.settled] == [13.0]

    def test_a_step_that_takes_too_long_is_released(self) -> None:
        postgres = Postgres([CREATE])
        one = worker(postgres, Effects(after(60, Done())), until_idle=False)

        async def going() -> float:
            working = asyncio.create_task(one.run())
            await asyncio.sleep(1)
            one.stop()
            await working
            return clock.monotonic()

        assert simulated(going) == 11.0
        told = "the worker was stopped while the step was under way"
        assert postgres.outcomes() == [(Action.RETRY, ErrorCode.RELEASED, told)]
        assert postgres.settled[0][1].unknown

    def test_one_that_needs_time_to_be_cut_off_is_waited_for(self) -> None:
        async def tidies(_: Dispatch) -> Outcome:
            try:
                return await asyncio.sleep(60, Done())
            finally:
                await asyncio.sleep(1)

        postgres = Postgres([CREATE])
        one = worker(postgres, Effects(tidies), until_idle=False)

        async def going() -> None:
            working = asyncio.create_task(one.run())
            await asyncio.sleep(1)
            one.stop()
            await working

        simulated(going)
        assert [(at, one.error_code) for at, one in postgres.settled] == [(12.0, ErrorCode.RELEASED)]

    def test_what_can_not_be_written_by_then_is_given_up(self) -> None:
        postgres = Postgres([CREATE])
        postgres.before = [refuses(AwayError("gone"))] * 100
        one = worker(postgres, Effects(), until_idle=False)

        async def going() -> float:
            working = asyncio.create_task(one.run())
            await asyncio.sleep(1)
            one.stop()
            await working
            return clock.monotonic()

        assert simulated(going) == 11.0
        assert postgres.settled == []

    def test_a_defect_in_handling_a_step_is_told_and_ends_it_with_the_others_settled(self) -> None:
        postgres = Postgres(steps(3))
        told: list[Any] = []

        async def going() -> None:
            with capture_logs() as logs:
                try:
                    await worker(postgres, Effects(), observer=Broken(2), until_idle=False).run()
                finally:
                    told.extend(
                        (line["event"], line["task"]) for line in logs if line["log_level"] == "error"
                    )

        with pytest.raises(LookupError, match="a defect"):
            simulated(going)
        assert {one.intent_id.int for _, one in postgres.settled} == {1, 3}
        assert told == [("step.died", f"outbox-{UUID(int=2)}")]

    def test_where_its_loop_dies_the_steps_under_way_are_settled_and_none_follows(self) -> None:
        postgres = Postgres([CREATE], refuses(DeniedError("no")))
        one = worker(postgres, Effects(after(8, Done())), until_idle=False)
        with pytest.raises(ProgrammingError):
            simulated(one.run)
        assert [at for at, _ in postgres.settled] == [8.0]
        assert postgres.rooms == [{}]

    def test_a_settler_that_can_not_go_on_ends_it(self) -> None:
        postgres = Postgres([CREATE])
        postgres.before = [refuses(DeniedError("no"))]
        with pytest.raises(ProgrammingError):
            simulated(worker(postgres, Effects(), until_idle=False).run)


def test_its_pulse_beats_each_time_it_comes_round_and_not_while_it_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [10.0]
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: now[0]))
    ages: list[dict[str, float]] = []

    def look() -> list[Dispatch]:
        now[0] += 5
        ages.append({name: one_pulse.age() for name, one_pulse in one.pulses.items()})
        return []

    postgres = Postgres(look, look)
    postgres.left = [True]
    one = worker(postgres, Effects())
    now[0] += 100
    look()
    simulated(one.run)
    look()
    assert [age["loop"] for age in ages] == [105.0, 5.0, 5.0, 10.0]
    assert {age["settler"] for age in ages} == {0.0}, "it rests"


def test_its_options_are_by_default_what_the_settings_are() -> None:
    settings = Settings.model_validate({})
    options = WorkerOptions({}, POLICY)
    assert options.poll_seconds == settings.poll_interval_seconds
    assert options.drain_seconds == settings.drain_seconds
    assert options.settle_batch_max == settings.settle_batch_max
    assert options.until_idle is False


def test_an_observer_is_told_of_each_attempt_and_how_long_it_took() -> None:
    watching, outcome = Watching(), Transient(ErrorCode.OVERLOADED, "busy")
    # Not at first, when all times are none.
    postgres = Postgres([], [CREATE])
    postgres.left = [True]
    postgres.before = [lambda: asyncio.sleep(3)]
    simulated(worker(postgres, Effects(after(2, outcome)), observer=watching).run)
    told = [one for one in watching.told if one != ("took", 0, 0.0)]
    assert told == [
        ("took", 1, 0.0),
        ("began", CREATE),
        ("attempted", CREATE, outcome, 2.0),
        ("settled", 1, 1, 3.0),
    ]


class TestSettler:
    def settler(self, postgres: Postgres, batch_max: int = 10) -> tuple[Settler, list[Any]]:
        told: list[Any] = []
        settler = Settler(
            postgres,
            batch_max=batch_max,
            wake=True,
            room=lambda batch: {Consumer.AUTHZ: len(batch)},
            on_settled=lambda batch, handed: told.append((len(batch), list(handed))),
            observer=Watching(),
        )
        return settler, told

    def put(self, settler: Settler, many: int) -> None:
        for one in steps(many):
            settler.put(decide(one, Done(), POLICY, random.Random(1)))

    def test_what_gathered_is_written_in_batches_each_told_with_what_it_handed_over(self) -> None:
        postgres = Postgres()
        postgres.follows = [[CREATE]]
        settler, told = self.settler(postgres, batch_max=2)

        async def going() -> None:
            self.put(settler, 5)
            await settler.flush()
            await settler.flush()

        simulated(going)
        assert postgres.batches == [2, 2, 1]
        assert postgres.rooms == [{Consumer.AUTHZ: 2}, {Consumer.AUTHZ: 2}, {Consumer.AUTHZ: 1}]
        assert told == [(2, [CREATE]), (2, []), (1, [])]
        assert [one.intent_id.int for _, one in postgres.settled] == [1, 2, 3, 4, 5]
        assert (postgres.wakes, settler.dropped) == ({True}, 0)

    def test_what_comes_while_a_batch_is_written_is_the_next(self) -> None:
        postgres = Postgres()
        settler, told = self.settler(postgres)
        postgres.before = [lambda: self.put(settler, 3)]

        async def going() -> None:
            writing = asyncio.create_task(settler.run())
            self.put(settler, 1)
            await asyncio.sleep(1)
            self.put(settler, 2)
            await asyncio.sleep(1)
            writing.cancel()

        simulated(going)
        assert (postgres.batches, told) == ([1, 3, 2], [(1, []), (3, []), (2, [])])

    def test_where_postgres_is_away_it_tries_again_twice_a_second(self) -> None:
        postgres = Postgres()
        postgres.before = [refuses(AwayError("gone"))] * 3
        settler, _ = self.settler(postgres)

        async def going() -> list[tuple[str, int, str]]:
            with capture_logs() as logs:
                self.put(settler, 2)
                await settler.flush()
            return [(line["event"], line["outcomes"], line["reason"]) for line in logs]

        assert simulated(going) == [("settle.postponed", 2, "gone")] * 3
        assert [at for at, _ in postgres.settled] == [1.5, 1.5]

    def test_it_gives_up_when_it_is_told_to(self) -> None:
        postgres = Postgres()
        postgres.before = [refuses(AwayError("gone"))] * 100
        settler, told = self.settler(postgres)

        async def going() -> float:
            self.put(settler, 1)
            await settler.flush(give_up_at=2.0)
            return clock.monotonic()

        assert simulated(going) == 2.0
        assert (postgres.settled, told) == ([], [])

    def test_where_postgres_can_not_be_used_it_says_so(self) -> None:
        postgres = Postgres()
        postgres.before = [refuses(DeniedError("no"))]
        settler, _ = self.settler(postgres)

        async def going() -> None:
            self.put(settler, 1)
            await settler.flush()

        with pytest.raises(ProgrammingError):
            simulated(going)

    def test_it_counts_what_named_a_lease_that_was_over(self) -> None:
        postgres = Postgres()
        postgres.matches = lambda one: one.intent_id.int not in {1, 2, 4}
        settler, told = self.settler(postgres, batch_max=3)

        async def going() -> list[int]:
            with capture_logs() as logs:
                self.put(settler, 7)
                await settler.flush()
            return [line["stale"] for line in logs if line["event"] == "settle.dropped"]

        assert simulated(going) == [2, 1]
        assert (settler.dropped, told) == (3, [(3, []), (3, []), (1, [])])

    def test_its_pulse_rests_while_there_is_nothing_to_write(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [10.0]
        monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: now[0]))
        postgres = Postgres()
        settler, _ = self.settler(postgres)
        ages = []

        def look() -> None:
            now[0] += 5
            ages.append(settler.pulse.age())

        async def going() -> None:
            look()
            self.put(settler, 1)
            look()
            # What comes later doesn't hide that the first is still waiting.
            self.put(settler, 1)
            look()
            postgres.before = [look]
            await settler.flush()
            look()

        simulated(going)
        assert ages == [0.0, 5.0, 10.0, 5.0, 0.0]


class TestWakeSignal:
    def wait(self, *happens: tuple[float, str]) -> list[float]:
        """When each of three waits of ten seconds ended, if these things happened."""

        async def going() -> list[float]:
            signal, loop = WakeSignal(), asyncio.get_running_loop()
            for at, what in happens:
                loop.call_later(at, getattr(signal, what))
            ended = []
            await asyncio.sleep(0.5)
            for _ in range(3):
                await signal.wait(10.0)
                ended.append(clock.monotonic())
            return ended

        ended: list[float] = simulated(going)
        return ended

    def test_it_ends_the_wait_under_way_or_the_next_one_and_no_other(self) -> None:
        assert self.wait() == [10.5, 20.5, 30.5]
        assert self.wait((3.0, "set")) == [3.0, 13.0, 23.0]
        assert self.wait((0.25, "set")) == [0.5, 10.5, 20.5]

    def test_what_is_seen_to_ends_no_wait(self) -> None:
        assert self.wait((0.25, "set"), (0.375, "clear")) == [10.5, 20.5, 30.5]


def test_a_claim_sees_to_what_was_told_before_it_and_not_to_what_comes_meanwhile() -> None:
    notifies = Notifies()
    postgres = Postgres([CREATE], lambda: notifies.on_wake() or [])  # type: ignore[func-returns-value]
    source = DirectSource(postgres, notifies)

    async def going() -> list[float]:
        ended = []
        notifies.on_wake()
        for _ in range(2):
            await source.take({Consumer.AUTHZ: 1})
            await source.wait_for_work(10.0)
            ended.append(clock.monotonic())
        source.wake()
        await source.wait_for_work(10.0)
        return [*ended, clock.monotonic()]

    assert simulated(going) == [10.0, 10.0, 10.0]
    assert source.relayed is False
