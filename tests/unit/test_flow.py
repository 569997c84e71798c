"""The flow table: its shape, the way of each intent through it, and the names that others know it by."""

import pytest

from outbox.flow.table import (
    REQUESTED,
    STEPS,
    TERMINALS,
    Consumer,
    Effect,
    EventType,
    Kind,
    Live,
    Status,
    Terminal,
)

REGISTER = Consumer.AUTHZ, Effect.REGISTER
CREATE = Consumer.TEMPORAL, Effect.CREATE
COMPENSATE = Consumer.AUTHZ, Effect.COMPENSATE
UPDATE = Consumer.TEMPORAL, Effect.UPDATE
DELETE = Consumer.TEMPORAL, Effect.DELETE
DEREGISTER = Consumer.AUTHZ, Effect.DEREGISTER
REPAIR = Consumer.BOTH, Effect.REPAIR
FAILED = Terminal(Status.FAILED, Live.KEEP)


def test_every_event_is_a_step_or_an_end() -> None:
    assert set(STEPS) | set(TERMINALS) == set(EventType)
    assert not set(STEPS) & set(TERMINALS)


def test_every_event_is_reached_from_a_request() -> None:
    reached = set(REQUESTED.values())
    while True:
        further = {
            event
            for source in reached & set(STEPS)
            for event in (
                STEPS[source].done,
                STEPS[source].skipped,
                STEPS[source].rejected,
                STEPS[source].rejected_after_unknown,
            )
            if event
        }
        if further <= reached:
            break
        reached |= further
    assert reached == set(EventType)


def test_temporal_is_reached_only_behind_the_registration() -> None:
    creates = {event for event, step in STEPS.items() if step.effect is Effect.CREATE}
    assert creates == {EventType.REGISTERED, EventType.REGISTRATION_SKIPPED}
    assert STEPS[EventType.CREATE_REQUESTED].consumer is Consumer.AUTHZ


def test_a_registration_is_compensated_and_a_skipped_one_never() -> None:
    assert STEPS[EventType.REGISTERED].rejected is EventType.COMPENSATION_REQUESTED
    assert STEPS[EventType.REGISTRATION_SKIPPED].rejected is EventType.CREATE_FAILED
    assert STEPS[EventType.REGISTRATION_SKIPPED].rejected_after_unknown is EventType.CREATE_FAILED


def test_a_delete_that_took_the_schedule_can_only_converge() -> None:
    assert STEPS[EventType.UNSCHEDULED].rejected is None
    assert STEPS[EventType.COMPENSATION_REQUESTED].rejected is None


def test_what_undoes_is_known_as_such() -> None:
    assert {step.effect for step in STEPS.values() if step.undoes} == {
        Effect.COMPENSATE,
        Effect.DELETE,
        Effect.DEREGISTER,
    }


@pytest.mark.parametrize(
    ("kind", "outcomes", "steps", "end", "terminal"),
    [
        (Kind.CREATE, [], [REGISTER, CREATE], EventType.CREATED, Terminal(Status.SUCCEEDED, Live.SET)),
        (
            Kind.CREATE,
            ["skipped"],
            [REGISTER, CREATE],
            EventType.CREATED,
            Terminal(Status.SUCCEEDED, Live.SET),
        ),
        (Kind.CREATE, ["rejected"], [REGISTER], EventType.CREATE_FAILED, FAILED),
        (Kind.CREATE, ["in doubt"], [REGISTER, COMPENSATE], EventType.CREATE_FAILED, FAILED),
        (Kind.CREATE, ["done", "rejected"], [REGISTER, CREATE, COMPENSATE], EventType.CREATE_FAILED, FAILED),
        (Kind.CREATE, ["done", "in doubt"], [REGISTER, CREATE, COMPENSATE], EventType.CREATE_FAILED, FAILED),
        (Kind.CREATE, ["skipped", "rejected"], [REGISTER, CREATE], EventType.CREATE_FAILED, FAILED),
        (Kind.CREATE, ["skipped", "in doubt"], [REGISTER, CREATE], EventType.CREATE_FAILED, FAILED),
        (Kind.UPDATE, [], [UPDATE], EventType.UPDATED, Terminal(Status.SUCCEEDED, Live.REVISE)),
        (Kind.UPDATE, ["rejected"], [UPDATE], EventType.UPDATE_FAILED, FAILED),
        (Kind.UPDATE, ["in doubt"], [UPDATE], EventType.UPDATE_FAILED, FAILED),
        (Kind.DELETE, [], [DELETE, DEREGISTER], EventType.DELETED, Terminal(Status.SUCCEEDED, Live.CLEAR)),
        (Kind.DELETE, ["rejected"], [DELETE], EventType.DELETE_FAILED, FAILED),
        (Kind.DELETE, ["in doubt"], [DELETE], EventType.DELETE_FAILED, FAILED),
        (Kind.REPAIR, [], [REPAIR], EventType.REPAIRED, Terminal(Status.SUCCEEDED, Live.KEEP)),
    ],
)
def test_the_way_of_an_intent(
    kind: Kind,
    outcomes: list[str],
    steps: list[tuple[Consumer, Effect]],
    end: EventType,
    terminal: Terminal,
) -> None:
    """Its steps come out as is said, and all further ones are done."""
    event, came, passed = REQUESTED[kind], iter(outcomes), []
    while event in STEPS:
        step = STEPS[event]
        passed.append((step.consumer, step.effect))
        following = {
            "done": step.done,
            "skipped": step.skipped,
            "rejected": step.rejected,
            "in doubt": step.rejected_after_unknown,
        }[next(came, "done")]
        assert following is not None
        event = following
    assert (passed, event, TERMINALS[event]) == (steps, end, terminal)


def test_names_stay_as_rows_and_metrics_and_producers_know_them() -> None:
    assert list(Kind) == ["create", "update", "delete", "repair"]
    assert list(Consumer) == ["authz", "temporal", "both"]
    assert list(Status) == ["pending", "parked", "succeeded", "failed"]
    assert list(Live) == ["keep", "set", "clear", "revise", "reclaim"]
    assert list(Effect) == ["register", "create", "update", "compensate", "delete", "deregister", "repair"]
