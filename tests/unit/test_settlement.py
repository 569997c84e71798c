"""What each outcome does to its step; the expectations are written out by hand from the rules."""

import random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Dispatch
from outbox.flow.outcome import Conflict, Done, Misconfigured, Outcome, Refused, Transient, Unknown
from outbox.flow.settlement import Action, RetryPolicy, Settlement, StoreHealth, decide, park
from outbox.flow.table import STEPS, TERMINALS, Consumer, EventType, Kind, Live

POLICY = RetryPolicy(base_seconds=1.0, cap_seconds=8.0, max_strikes=3)
REFUSAL = Refused(ErrorCode.REFUSED, "no")
CAUSE = Cause(ErrorCode.REFUSED, "no")


def dispatch(event: EventType = EventType.REGISTERED, **fields: object) -> Dispatch:
    known: dict[str, object] = {
        "intent_id": UUID(int=7),
        "schedule_id": "a--n",
        "kind": Kind.CREATE,
        "event_type": event,
        "lease_number": 4,
        "attempt": 2,
        "deadline": 0.0,
    }
    return Dispatch(**(known | fields))  # type: ignore[arg-type]


def settle(one: Dispatch, outcome: Outcome) -> Settlement:
    return decide(one, outcome, POLICY, random.Random(1))


def test_a_settlement_names_intent_event_and_lease() -> None:
    done = settle(dispatch(), Done())
    assert (done.intent_id, done.event_type, done.lease_number) == (UUID(int=7), EventType.REGISTERED, 4)


@pytest.mark.parametrize(
    ("event", "following", "consumer"),
    [
        (EventType.CREATE_REQUESTED, EventType.REGISTERED, Consumer.TEMPORAL),
        (EventType.REGISTERED, EventType.CREATED, None),
        (EventType.REGISTRATION_SKIPPED, EventType.CREATED, None),
        (EventType.COMPENSATION_REQUESTED, EventType.CREATE_FAILED, None),
        (EventType.DELETE_REQUESTED, EventType.UNSCHEDULED, Consumer.AUTHZ),
        (EventType.UNSCHEDULED, EventType.DELETED, None),
    ],
)
def test_done_goes_on_to_the_next_event(
    event: EventType, following: EventType, consumer: Consumer | None
) -> None:
    settled = settle(dispatch(event), Done("token"))
    assert settled.action is Action.ADVANCE
    assert (settled.next_event, settled.next_consumer) == (following, consumer)
    assert settled.terminal is (consumer is None)
    assert settled.zed_token == "token"
    assert settled.store is StoreHealth.UP


def test_a_skipped_registration_goes_on_as_skipped() -> None:
    assert settle(dispatch(EventType.CREATE_REQUESTED), Done(skipped=True)).next_event is (
        EventType.REGISTRATION_SKIPPED
    )
    # A repair of a schedule without a registration is repaired all the same.
    assert settle(dispatch(EventType.REPAIR_REQUESTED), Done(skipped=True)).next_event is EventType.REPAIRED


@pytest.mark.parametrize(
    ("event", "live"),
    [
        (EventType.REGISTERED, Live.SET),
        (EventType.UNSCHEDULED, Live.CLEAR),
        (EventType.COMPENSATION_REQUESTED, Live.KEEP),
    ],
)
def test_only_created_and_deleted_touch_the_live_stamp(event: EventType, live: Live) -> None:
    assert settle(dispatch(event), Done()).live is live


@pytest.mark.parametrize("outcome", [REFUSAL, Conflict(ErrorCode.CONFLICT_FOREIGN, "no")])
@pytest.mark.parametrize(
    ("event", "following"),
    [
        (EventType.CREATE_REQUESTED, EventType.CREATE_FAILED),
        (EventType.REGISTERED, EventType.COMPENSATION_REQUESTED),
        (EventType.REGISTRATION_SKIPPED, EventType.CREATE_FAILED),
        (EventType.DELETE_REQUESTED, EventType.DELETE_FAILED),
    ],
)
def test_a_rejection_with_nothing_unknown_fails_or_compensates(
    outcome: Refused | Conflict, event: EventType, following: EventType
) -> None:
    settled = settle(dispatch(event), outcome)
    assert (settled.action, settled.next_event) == (Action.ADVANCE, following)
    assert (settled.error_code, settled.error_message) == (outcome.code, "no")


@pytest.mark.parametrize(
    "event",
    [
        EventType.CREATE_REQUESTED,
        EventType.REGISTERED,
        EventType.REGISTRATION_SKIPPED,
        EventType.DELETE_REQUESTED,
    ],
)
def test_a_rejection_after_an_unknown_attempt_holds(event: EventType) -> None:
    settled = settle(dispatch(event, unknown=True), REFUSAL)
    assert (settled.action, settled.next_event) == (Action.HOLD, None)
    assert settled.error_code is ErrorCode.REFUSED


@pytest.mark.parametrize(
    ("event", "following"),
    [
        (EventType.CREATE_REQUESTED, EventType.COMPENSATION_REQUESTED),
        (EventType.REGISTERED, EventType.COMPENSATION_REQUESTED),
        (EventType.REGISTRATION_SKIPPED, EventType.CREATE_FAILED),
        (EventType.DELETE_REQUESTED, EventType.DELETE_FAILED),
    ],
)
def test_after_the_hold_a_look_that_finds_nothing_lets_the_cause_stand(
    event: EventType, following: EventType
) -> None:
    looked = dispatch(event, unknown=True, look=True, cause=CAUSE)
    settled = settle(looked, Refused(ErrorCode.REGISTRATION_REFUSED, "nothing of ours"))
    assert settled.next_event is following
    assert (settled.error_code, settled.error_message) == (ErrorCode.REFUSED, "no")


def test_after_the_hold_a_look_that_finds_our_effect_goes_on_as_done() -> None:
    settled = settle(dispatch(unknown=True, look=True, cause=CAUSE), Done())
    assert (settled.next_event, settled.error_code) == (EventType.CREATED, None)


def test_a_compensation_that_is_done_ends_the_intent_with_what_caused_it() -> None:
    settled = settle(dispatch(EventType.COMPENSATION_REQUESTED, cause=CAUSE), Done())
    assert (settled.next_event, settled.error_code) == (EventType.CREATE_FAILED, ErrorCode.REFUSED)


@pytest.mark.parametrize("event", [EventType.COMPENSATION_REQUESTED, EventType.UNSCHEDULED])
def test_what_can_only_converge_is_retried_whatever_the_store_says(event: EventType) -> None:
    settled = settle(dispatch(event), REFUSAL)
    assert (settled.action, settled.strike, settled.next_event) == (Action.RETRY, True, None)


@pytest.mark.parametrize("event", [EventType.REGISTERED, EventType.DELETE_REQUESTED])
def test_what_undoes_waits_for_late_writes_and_what_goes_forward_does_not(event: EventType) -> None:
    outcome = REFUSAL if event is EventType.REGISTERED else Done()
    assert settle(dispatch(event), outcome).waits
    assert not settle(dispatch(EventType.CREATE_REQUESTED), Done()).waits


@pytest.mark.parametrize(
    ("outcome", "unknown", "strike", "news"),
    [
        (Transient(ErrorCode.OVERLOADED, "later"), False, False, StoreHealth.DOWN),
        (Transient(ErrorCode.TIMED_OUT, "a read"), False, False, StoreHealth.DOWN),
        (Transient(ErrorCode.RACED, "again"), False, True, StoreHealth.UP),
        (Transient(ErrorCode.UNREACHABLE, "gone"), False, False, StoreHealth.DOWN),
        (Unknown(ErrorCode.TIMED_OUT, "?"), True, False, StoreHealth.DOWN),
        (Unknown(ErrorCode.CONNECTION_LOST, "?"), True, False, None),
        (Unknown(ErrorCode.UNEXPECTED, "?"), True, True, None),
        (Misconfigured(ErrorCode.MISCONFIGURED, "token"), False, False, StoreHealth.DOWN),
    ],
)
def test_what_is_tried_again_and_what_it_costs(
    outcome: Outcome, unknown: bool, strike: bool, news: StoreHealth | None
) -> None:
    settled = settle(dispatch(), outcome)
    assert settled.action is Action.RETRY
    assert (settled.unknown, settled.strike, settled.store) == (unknown, strike, news)


def test_a_step_parks_at_its_last_strike_and_never_without_one() -> None:
    last = dispatch(strikes=2)
    assert settle(last, Transient(ErrorCode.RACED, "again")).action is Action.PARK
    assert settle(last, Unknown(ErrorCode.UNEXPECTED, "bug")).action is Action.PARK
    assert settle(last, Transient(ErrorCode.UNREACHABLE, "gone")).action is Action.RETRY
    assert settle(last, Transient(ErrorCode.OVERLOADED, "later")).action is Action.RETRY
    assert settle(last, Misconfigured(ErrorCode.MISCONFIGURED, "token")).action is Action.RETRY
    assert settle(last, Unknown(ErrorCode.TIMED_OUT, "?")).action is Action.RETRY


def test_a_parked_unknown_attempt_stays_unknown() -> None:
    assert settle(dispatch(strikes=2), Unknown(ErrorCode.UNEXPECTED, "bug")).unknown


def test_the_stores_own_entry_is_the_delay() -> None:
    assert (
        settle(dispatch(), Transient(ErrorCode.OVERLOADED, "later", retry_after=42.0)).delay_seconds == 42.0
    )
    assert settle(dispatch(), Transient(ErrorCode.RACED, "again", retry_after=0.0)).delay_seconds == 0.0


def test_parking_by_hand_names_the_cause() -> None:
    settled = park(dispatch(), Cause(ErrorCode.LEASE_EXPIRED, "died"))
    assert (settled.action, settled.error_code) == (Action.PARK, ErrorCode.LEASE_EXPIRED)


@given(attempt=st.integers(1, 10_000), seed=st.integers())
def test_the_backoff_grows_to_its_cap_and_never_beyond(attempt: int, seed: int) -> None:
    delay = POLICY.delay(attempt, random.Random(seed))
    longest = min(8.0, 2.0 ** min(attempt - 1, 10))
    assert longest / 2 <= delay <= longest


@given(
    event=st.sampled_from(list(STEPS)),
    unknown=st.booleans(),
    look=st.booleans(),
    strikes=st.integers(0, 3),
    outcome=st.sampled_from(
        [
            Done(),
            REFUSAL,
            Conflict(ErrorCode.CONFLICT_LIVE, "x"),
            Transient(ErrorCode.OVERLOADED, "x"),
            Transient(ErrorCode.UNREACHABLE, "x"),
            Unknown(ErrorCode.TIMED_OUT, "x"),
            Unknown(ErrorCode.UNEXPECTED, "x"),
            Misconfigured(ErrorCode.MISCONFIGURED, "x"),
        ]
    ),
)
def test_nothing_ends_an_intent_that_may_not(
    event: EventType, unknown: bool, look: bool, strikes: int, outcome: Outcome
) -> None:
    one = dispatch(event, unknown=unknown, look=look, strikes=strikes, cause=CAUSE if look else None)
    settled = settle(one, outcome)
    assert settled.terminal is (settled.next_event in TERMINALS)
    if not isinstance(outcome, Done | Refused | Conflict):
        assert settled.next_event is None, "only an answer moves a step on"
    if isinstance(outcome, Refused | Conflict) and unknown and not look:
        assert settled.next_event is None, "a refusal after an unknown attempt looks first"
    if settled.action is not Action.ADVANCE:
        assert settled.error_code is not None
