"""The flow table's shape: closed, every event reachable, every step with a way to end."""

from outbox.flow.table import REQUESTED, STEPS, TERMINALS, Consumer, Effect, EventType


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
