"""The inbox: in order, bounded, and an offset moves only past what Postgres was asked about."""

from uuid import UUID

from outbox.flow.table import Consumer, EventType
from outbox.kafka.envelope import Envelope
from outbox.kafka.inbox import Inbox, Partition, Received

AUTHZ, TEMPORAL = Consumer.AUTHZ, Consumer.TEMPORAL
TOPICS = {"a": AUTHZ, "t": TEMPORAL}
ENVELOPE = Envelope(UUID(int=1), UUID(int=2), EventType.REGISTERED, 1)


def record(partition: Partition, offset: int, envelope: Envelope | None = ENVELOPE) -> Received:
    return Received(partition, offset, envelope)


def offsets(records: list[Received]) -> list[tuple[str, int, int]]:
    return [(*one.partition, one.offset) for one in records]


def test_each_consumer_gets_what_there_is_room_for_from_all_of_its_partitions() -> None:
    inbox = Inbox(TOPICS, most=10)
    inbox.put([record(("a", 0), 5), record(("a", 0), 6), record(("a", 1), 9), record(("t", 0), 1)])
    assert offsets(inbox.next({AUTHZ: 2})) == [("a", 0, 5), ("a", 1, 9)]
    assert offsets(inbox.next({AUTHZ: 3, TEMPORAL: 1})) == [
        ("a", 0, 5),
        ("a", 1, 9),
        ("t", 0, 1),
        ("a", 0, 6),
    ]


def test_partitions_take_turns() -> None:
    inbox = Inbox(TOPICS, most=10)
    inbox.put([record(("a", 0), 1), record(("a", 0), 2), record(("a", 1), 7), record(("a", 1), 8)])
    turns = []
    for _ in range(4):
        turns += offsets(found := inbox.next({AUTHZ: 1}))
        inbox.done(found)
    assert turns == [("a", 0, 1), ("a", 1, 7), ("a", 0, 2), ("a", 1, 8)]


def test_the_offset_moves_past_what_is_done_alone() -> None:
    inbox = Inbox(TOPICS, most=10)
    inbox.put([record(("a", 0), 5), record(("a", 0), 8)])
    first = inbox.next({AUTHZ: 1})
    assert inbox.offsets() == {}
    inbox.done(first)
    assert inbox.offsets() == {("a", 0): 6}
    inbox.done(inbox.next({AUTHZ: 1}))
    assert inbox.offsets() == {("a", 0): 9}


def test_what_is_not_for_us_counts_as_an_offset() -> None:
    inbox = Inbox(TOPICS, most=10)
    inbox.put([record(("a", 0), 5, None)])
    inbox.done(inbox.next({AUTHZ: 1}))
    assert inbox.offsets() == {("a", 0): 6}


def test_what_another_member_has_is_forgotten_even_if_it_is_being_asked_about() -> None:
    inbox = Inbox(TOPICS, most=10)
    inbox.put([record(("a", 0), 5), record(("a", 1), 1)])
    asked = inbox.next({AUTHZ: 2})
    inbox.keep({("a", 1)})
    inbox.done(asked)
    assert inbox.offsets() == {("a", 1): 2}
    # The partition comes back, and with it what was delivered before.
    inbox.put([record(("a", 0), 4), record(("a", 0), 5)])
    inbox.done(asked)
    assert offsets(inbox.next({AUTHZ: 9})) == [("a", 0, 4)]


def test_what_is_done_in_between_is_not_chosen_again_and_holds_no_offset_back() -> None:
    inbox = Inbox(TOPICS, most=3)
    inbox.put([record(("a", 0), 5), record(("a", 0), 6), record(("a", 0), 7)])
    assert inbox.full_topics() == {"a"}
    inbox.done([record(("a", 0), 6)])
    assert offsets(inbox.next({AUTHZ: 9})) == [("a", 0, 5), ("a", 0, 7)]
    assert inbox.full_topics() == set()
    assert inbox.offsets() == {}
    inbox.done([record(("a", 0), 5)])
    assert inbox.offsets() == {("a", 0): 7}


def test_a_full_topic_says_so_and_no_other_does() -> None:
    inbox = Inbox(TOPICS, most=2)
    inbox.put([record(("a", 0), 1), record(("t", 0), 1)])
    assert inbox.full_topics() == set()
    inbox.put([record(("a", 1), 1)])
    assert inbox.full_topics() == {"a"}
    inbox.done(inbox.next({AUTHZ: 1}))
    assert inbox.full_topics() == set()
