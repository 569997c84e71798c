"""The checker: a sound history passes, and each way of breaking it is told by its invariant."""

import inspect
import re
from dataclasses import replace
from typing import Any

import pytest

from outbox.flow.table import EventType, Kind
from outbox.testing import Event, Intent, Invariant, Ledger, Pending, Scheduled, Stores, check
from tests.docs.pages import Page

NAME = "agent-7--daily"
OTHER = "agent-7--weekly"
E = EventType


def intent(intent_id: str, kind: Kind = Kind.CREATE, *, at: float, name: str = NAME, **more: Any) -> Intent:
    owner = "user:alice" if kind is Kind.CREATE else None
    return Intent(intent_id, name, kind, (at, at), **({"owner": owner} | more))


def events(intent_id: str, *types: EventType, name: str = NAME) -> list[Event]:
    """Each step under a lease of its own."""
    leases = [None, *range(1, len(types))]
    return [Event(intent_id, name, one, lease) for one, lease in zip(types, leases, strict=True)]


def holds(intent_id: str, *more: str, owner: str = "user:alice") -> frozenset[str]:
    own = {f"owner@{owner}", "parent_agent@agent:agent-7", f"registered_by@outbox_intent:{intent_id}"}
    return frozenset({*own, *more})


CREATED = (E.CREATE_REQUESTED, E.REGISTERED, E.CREATED)
DELETED = (E.DELETE_REQUESTED, E.UNSCHEDULED, E.DELETED)
FAILED = (E.CREATE_REQUESTED, E.REGISTERED, E.COMPENSATION_REQUESTED, E.CREATE_FAILED)

# One lane: created, deleted, refused, created again by another owner.
LEDGER = Ledger(
    intents=[
        intent("one", at=1),
        intent("two", Kind.DELETE, at=2),
        intent("bad", at=3),
        intent("new", at=4, owner="user:bob", runs="Run as it on here"),
    ],
    events=[
        *events("one", *CREATED),
        *events("two", *DELETED),
        *events("bad", *FAILED),
        *events("new", *CREATED),
    ],
    live={NAME: "new"},
)
STORES = Stores(
    relationships={NAME: holds("new", owner="user:bob")},
    schedules={NAME: Scheduled("new", "Run as it on here")},
    ended={"one", "bad"},
)


def broken(ledger: Ledger = LEDGER, stores: Stores = STORES, **more: Any) -> list[tuple[str, str]]:
    return [(one.invariant.value, one.schedule_id) for one in check(ledger, stores, **more)]


def without(ledger: Ledger, intent_id: str, *types: EventType) -> Ledger:
    kept = [one for one in ledger.events if (one.intent_id, one.type) not in {(intent_id, t) for t in types}]
    return replace(ledger, events=kept)


def test_a_sound_history_passes() -> None:
    assert check(LEDGER, STORES) == []


def test_what_was_committed_is_there() -> None:
    assert broken(committed=["one", "new"]) == []
    assert broken(committed=["one", "lost"]) == [("not_lost", "")]


def test_an_intent_begins_with_its_request() -> None:
    assert broken(without(LEDGER, "two", E.DELETE_REQUESTED)) == [("not_lost", NAME)]


def test_an_event_belongs_to_an_intent() -> None:
    assert ("not_lost", NAME) in broken(replace(LEDGER, intents=LEDGER.intents[1:]))


def test_an_intent_that_vanished_did_not_end() -> None:
    assert broken(without(LEDGER, "bad", E.CREATE_FAILED)) == [("ends_once", NAME)]


def test_an_intent_ends_once() -> None:
    twice = [*LEDGER.events, Event("two", NAME, E.DELETE_FAILED, 9)]
    found = broken(replace(LEDGER, events=twice))
    assert ("ends_once", NAME) in found
    assert ("flow", NAME) in found


def test_events_follow_the_flow() -> None:
    assert broken(without(LEDGER, "one", E.REGISTERED)) == [("flow", NAME)]


def test_leases_grow() -> None:
    again = [replace(one, lease_number=1) if one.type is E.DELETED else one for one in LEDGER.events]
    assert broken(replace(LEDGER, events=again)) == [("flow", NAME)]


class TestWaiting:
    def waiting(self, place: str, state: str, code: str | None = None, *, of: str = "last") -> Pending:
        return Pending(of, NAME, E.DELETE_REQUESTED, place, state, code, code)

    def ledger(self, *pending: Pending) -> Ledger:
        last = [intent(row.intent_id, Kind.DELETE, at=9) for row in pending]
        begun = [Event(row.intent_id, NAME, E.DELETE_REQUESTED) for row in pending]
        return replace(
            LEDGER, intents=[*LEDGER.intents, *last], events=[*LEDGER.events, *begun], pending=pending
        )

    @pytest.mark.parametrize(
        ("place", "state"),
        [("head", "ready"), ("head", "leased"), ("head", "holding"), ("incoming", "queued")],
    )
    def test_what_has_not_ended_is_told(self, place: str, state: str) -> None:
        assert broken(self.ledger(self.waiting(place, state))) == [("ends_once", NAME)]

    def test_what_stands_behind_nothing_parked_is_told(self) -> None:
        head = self.waiting("head", "ready", of="next")
        assert broken(self.ledger(head, self.waiting("behind", "queued"))) == [("ends_once", NAME)] * 2

    def test_what_stands_behind_nothing_at_all_is_told_of_the_lane_too(self) -> None:
        assert set(broken(self.ledger(self.waiting("behind", "queued")))) == {
            ("one_head", NAME),
            ("ends_once", NAME),
        }

    def test_a_lane_has_one_head(self) -> None:
        heads = [self.waiting("head", "parked", "raced", of=name) for name in ("last", "next")]
        assert broken(self.ledger(*heads)) == [("one_head", NAME)]

    def test_what_is_pending_is_what_the_log_asks_for(self) -> None:
        row = replace(self.waiting("head", "parked", "raced"), event_type=E.UNSCHEDULED)
        assert broken(self.ledger(row)) == [("flow", NAME)]

    def test_a_lease_is_no_older_than_what_was_settled_under_it(self) -> None:
        row = replace(self.waiting("head", "parked", "raced"), event_type=E.UNSCHEDULED)
        ledger = self.ledger(replace(row, lease_number=3))
        events = [*ledger.events, Event("last", NAME, E.UNSCHEDULED, 3)]
        assert broken(replace(ledger, events=events)) == []
        older = replace(ledger, events=events, pending=[replace(row, lease_number=2)])
        assert broken(older) == [("flow", NAME)]

    def test_what_waits_is_an_intent(self) -> None:
        row = self.waiting("head", "parked", "raced")
        assert broken(replace(LEDGER, pending=[row])) == [("not_lost", NAME)]

    def test_parked_with_a_reason_will_do_and_so_will_what_is_behind(self) -> None:
        parked = self.waiting("head", "parked", "raced")
        assert broken(self.ledger(parked, self.waiting("behind", "queued", of="next"))) == []

    def test_parked_without_a_reason_will_not_do(self) -> None:
        assert broken(self.ledger(self.waiting("head", "parked"))) == [("ends_once", NAME)]

    def test_a_parked_lane_may_be_half_done_in_the_stores(self) -> None:
        parked = self.ledger(self.waiting("head", "parked", "raced"))
        assert broken(parked, replace(STORES, schedules={})) == []

    def test_a_repair_whose_time_has_not_come_is_left_alone(self) -> None:
        row = Pending("later", NAME, E.REPAIR_REQUESTED, "deferred", "queued")
        ledger = replace(
            LEDGER,
            intents=[*LEDGER.intents, intent("later", Kind.REPAIR, at=5)],
            events=[*LEDGER.events, Event("later", NAME, E.REPAIR_REQUESTED)],
            pending=[row],
        )
        assert broken(ledger) == []


class TestOrder:
    def ledger(self, one: tuple[float, float], two: tuple[float, float]) -> Ledger:
        """Applied one before two."""
        return Ledger(
            intents=[
                replace(intent("two", Kind.DELETE, at=0), span=two),
                replace(intent("one", Kind.DELETE, at=0), span=one),
            ],
            events=[*events("one", *DELETED), *events("two", *DELETED)],
        )

    @pytest.mark.parametrize(
        ("one", "two"), [((1, 1), (2, 2)), ((1, 3), (2, 4)), ((2, 4), (1, 3)), ((1, float("inf")), (2, 3))]
    )
    def test_in_order_or_side_by_side(self, one: tuple[float, float], two: tuple[float, float]) -> None:
        assert broken(self.ledger(one, two), Stores()) == []

    def test_not_before_what_was_committed_earlier(self) -> None:
        assert broken(self.ledger((3, 4), (1, 2)), Stores()) == [("lane_order", NAME)]

    def test_repairs_come_when_they_are_due(self) -> None:
        ledger = self.ledger((3, 4), (1, 2))
        ledger = Ledger(
            intents=[ledger.intents[0], intent("one", Kind.REPAIR, at=9)],
            events=[*events("one", E.REPAIR_REQUESTED, E.REPAIRED), *events("two", *DELETED)],
        )
        assert broken(ledger, Stores()) == []

    def test_one_at_a_time(self) -> None:
        one, two = events("one", *DELETED), events("two", *DELETED)
        mixed = replace(self.ledger((1, 1), (2, 2)), events=[*one[:2], *two[:2], one[2], two[2]])
        assert broken(mixed, Stores()) == [("lane_order", NAME)]


def test_the_live_stamp_is_what_the_log_says() -> None:
    assert broken(replace(LEDGER, live={NAME: "one"})) == [("live_stamp", NAME)]
    assert broken(replace(LEDGER, live={})) == [("live_stamp", NAME)]


@pytest.mark.parametrize(
    "found",
    [None, Scheduled("one"), Scheduled(None), Scheduled("new", "Other as it on here")],
    ids=["missing", "debris", "unstamped", "another"],
)
def test_the_live_schedule_is_in_temporal(found: Scheduled | None) -> None:
    schedules = {NAME: found} if found else {}
    assert broken(stores=replace(STORES, schedules=schedules)) == [("schedule", NAME)]


def test_a_schedule_that_ran_out_may_be_gone() -> None:
    ledger = replace(LEDGER, intents=[*LEDGER.intents[:3], replace(LEDGER.intents[3], ran_out=True)])
    assert broken(ledger, replace(STORES, schedules={})) == []
    assert broken(ledger, replace(STORES, schedules={NAME: Scheduled("one")})) == [("schedule", NAME)]


@pytest.mark.parametrize(
    "held",
    [
        frozenset(),
        holds("new", owner="user:alice"),
        holds("one", owner="user:bob"),
        holds("new", "owner@user:alice", owner="user:bob"),
        holds("new", "reader@user:rita", owner="user:bob"),
    ],
    ids=["missing", "wrong-owner", "wrong-stamp", "former-owner", "stranger"],
)
def test_the_live_schedule_has_its_registration_alone(held: frozenset[str]) -> None:
    assert broken(stores=replace(STORES, relationships={NAME: held})) == [("tuples", NAME)]


def test_a_later_grantee_stays_as_long_as_what_it_was_given() -> None:
    held = replace(STORES, relationships={NAME: holds("new", "reader@user:rita", owner="user:bob")})
    assert broken(stores=held, granted={"new": {"reader@user:rita"}}) == []
    assert broken(stores=STORES, granted={"new": {"reader@user:rita"}}) == [("tuples", NAME)]
    assert broken(stores=held, granted={"one": {"reader@user:rita"}}) == [("tuples", NAME)]


def test_a_skipped_registration_has_no_tuples() -> None:
    skipped = Ledger(
        intents=[intent("one", at=1, owner=None)],
        events=events("one", E.CREATE_REQUESTED, E.REGISTRATION_SKIPPED, E.CREATED),
        live={NAME: "one"},
    )
    stores = Stores(schedules={NAME: Scheduled("one")})
    assert broken(skipped, stores) == []
    assert broken(skipped, replace(stores, relationships={NAME: holds("one")})) == [("tuples", NAME)]


def test_where_nothing_is_live_nothing_of_ours_is_left() -> None:
    gone = Ledger(LEDGER.intents[:3], LEDGER.events[:-3])
    assert broken(gone, Stores(ended={"one", "bad"})) == []
    assert broken(gone, replace(STORES, schedules={})) == [("tuples", NAME)]
    assert broken(gone, replace(STORES, relationships={})) == [("schedule", NAME)]


def test_what_was_undone_is_marked_and_what_lives_is_not() -> None:
    assert broken(stores=replace(STORES, ended={"one"})) == [("ended_mark", NAME)]
    assert broken(stores=replace(STORES, ended={"bad"})) == [("ended_mark", NAME)]
    assert broken(stores=replace(STORES, ended={"one", "bad", "new"})) == [("ended_mark", NAME)]
    assert broken(stores=replace(STORES, ended=None)) == []


class TestForeign:
    THEIRS = Stores(
        relationships={OTHER: frozenset({"owner@user:holder", "parent_agent@agent:agent-7"})},
        schedules={OTHER: Scheduled(None)},
    )
    STAMPED = Stores(
        relationships={OTHER: holds("theirs", owner="user:holder")}, schedules={OTHER: Scheduled("theirs")}
    )
    CONFLICT = Ledger(
        [intent("try", at=1, name=OTHER)], events("try", E.CREATE_REQUESTED, E.CREATE_FAILED, name=OTHER)
    )
    TAKEN = Ledger([intent("del", Kind.DELETE, at=1, name=OTHER)], events("del", *DELETED, name=OTHER))

    @pytest.mark.parametrize("theirs", [THEIRS, STAMPED], ids=["legacy", "stamped"])
    @pytest.mark.parametrize("ledger", [CONFLICT, Ledger((), ())], ids=["conflict", "nothing"])
    def test_is_as_it_was(self, ledger: Ledger, theirs: Stores) -> None:
        assert broken(ledger, theirs, before=theirs) == []
        assert broken(ledger, replace(theirs, schedules={}), before=theirs) == [("foreign", OTHER)]
        more = {OTHER: theirs.relationships[OTHER] | {"owner@user:alice"}}
        assert broken(ledger, replace(theirs, relationships=more), before=theirs) == [("foreign", OTHER)]

    def test_legacy_goes_with_its_delete(self) -> None:
        assert broken(self.TAKEN, Stores(), before=self.THEIRS) == []
        assert broken(self.TAKEN, self.THEIRS, before=self.THEIRS) == [("schedule", OTHER), ("tuples", OTHER)]

    def test_what_is_stamped_stays_when_a_delete_is_done(self) -> None:
        kept = replace(self.STAMPED, schedules={})
        assert broken(self.TAKEN, kept, before=kept) == []
        assert broken(self.TAKEN, Stores(), before=kept) == [("foreign", OTHER)]

    def test_what_carries_the_stamp_of_an_intent_of_the_lane_is_the_outbox_s_own(self) -> None:
        """It was reclaimed, and lives and goes as any other."""
        reclaimed = Ledger(
            [intent("theirs", at=1, name=OTHER, owner="user:holder")],
            events("theirs", *CREATED, name=OTHER),
            live={OTHER: "theirs"},
        )
        assert broken(reclaimed, self.STAMPED, before=self.STAMPED) == []
        gone = Ledger(
            [*reclaimed.intents, intent("del", Kind.DELETE, at=2, name=OTHER)],
            [*reclaimed.events, *events("del", *DELETED, name=OTHER)],
        )
        assert broken(gone, Stores(ended={"theirs"}), before=self.STAMPED) == []
        assert broken(gone, self.STAMPED, before=self.STAMPED) == [("schedule", OTHER), ("tuples", OTHER)]


class TestRepairs:
    """A repair may adopt what others made without a stamp, and clear up after what has run out."""

    THEIRS = TestForeign.THEIRS
    ADOPTION = Ledger(
        [intent("adoption", Kind.REPAIR, at=1, name=OTHER, adopts=True)],
        events("adoption", E.REPAIR_REQUESTED, E.REPAIRED, name=OTHER),
        live={OTHER: "adoption"},
    )
    ADOPTED = replace(
        THEIRS, relationships={OTHER: THEIRS.relationships[OTHER] | {"registered_by@outbox_intent:adoption"}}
    )

    def test_what_a_newer_ledger_has_ended_is_cleared_up(self) -> None:
        ledger = Ledger(
            [intent("one", at=1), intent("repair", Kind.REPAIR, at=2)],
            [*events("one", *CREATED), *events("repair", E.REPAIR_REQUESTED, E.REPAIRED)],
        )
        assert broken(ledger, Stores(ended={"one"})) == []
        assert ("live_stamp", NAME) in broken(ledger, Stores(ended=set()))

    def test_an_adoption_adds_its_stamp_alone(self) -> None:
        assert broken(self.ADOPTION, self.ADOPTED, before=self.THEIRS) == []
        assert broken(self.ADOPTION, self.THEIRS, before=self.THEIRS) == [("foreign", OTHER)]

    def test_an_adopted_schedule_is_there_and_is_changed_by_updates_alone(self) -> None:
        gone = replace(self.ADOPTED, schedules={})
        assert broken(self.ADOPTION, gone, before=self.THEIRS) == [("schedule", OTHER)]
        told = replace(self.ADOPTED, schedules={OTHER: Scheduled(None, revision="up")})
        assert broken(self.ADOPTION, told, before=self.THEIRS) == [("revision", OTHER)]
        updated = Ledger(
            [*self.ADOPTION.intents, intent("up", Kind.UPDATE, at=2, name=OTHER)],
            [*self.ADOPTION.events, *events("up", E.UPDATE_REQUESTED, E.UPDATED, name=OTHER)],
            live=self.ADOPTION.live,
            revisions={OTHER: "up"},
        )
        assert broken(updated, told, before=self.THEIRS) == []

    def test_an_adoption_of_what_was_not_seen_before_has_its_stamp(self) -> None:
        assert broken(self.ADOPTION, self.ADOPTED) == []
        assert broken(self.ADOPTION, self.THEIRS) == [("tuples", OTHER)]
        another = replace(self.ADOPTED, schedules={OTHER: Scheduled("another")})
        assert broken(self.ADOPTION, another) == [("schedule", OTHER)]

    def test_an_adopted_schedule_that_was_made_again_has_its_stamp(self) -> None:
        again = replace(self.ADOPTED, schedules={OTHER: Scheduled("adoption")})
        assert broken(self.ADOPTION, again) == []

    def test_an_adoption_may_find_nothing_to_adopt(self) -> None:
        assert broken(replace(self.ADOPTION, live={}), Stores()) == []

    def test_what_was_adopted_goes_with_its_delete(self) -> None:
        ledger = Ledger(
            [*self.ADOPTION.intents, intent("del", Kind.DELETE, at=2, name=OTHER)],
            [*self.ADOPTION.events, *events("del", *DELETED, name=OTHER)],
        )
        assert broken(ledger, Stores(), before=self.THEIRS) == []

    def test_no_other_repair_changes_what_is_live(self) -> None:
        repair = intent("repair", Kind.REPAIR, at=5)
        repaired = replace(
            LEDGER,
            intents=[*LEDGER.intents, repair],
            events=[*LEDGER.events, *events("repair", E.REPAIR_REQUESTED, E.REPAIRED)],
        )
        assert broken(repaired) == []
        assert ("live_stamp", NAME) in broken(replace(repaired, live={}))
        assert ("live_stamp", NAME) in broken(replace(repaired, live={NAME: "repair"}))

    def test_a_repair_may_clear_up_after_what_has_run_out(self) -> None:
        ledger = Ledger(
            [intent("one", at=1, ran_out=True), intent("repair", Kind.REPAIR, at=2)],
            [*events("one", *CREATED), *events("repair", E.REPAIR_REQUESTED, E.REPAIRED)],
        )
        assert broken(ledger, Stores(ended={"one"})) == []
        standing = Stores(relationships={NAME: holds("one")}, ended=())
        assert broken(replace(ledger, live={NAME: "one"}), standing) == []


def test_the_page_lists_every_invariant() -> None:
    source = inspect.getsource(Invariant)
    docs = [
        (name, " ".join(text.split()))
        for name, text in re.findall(r'= "(\w+)"\n\s+"""(.+?)"""', source, re.DOTALL)
    ]
    rows = Page("docs/testing.md").table("invariant", "what must hold")
    assert [(name, re.sub(r"\[(.+?)\]\(.+?\)", r"\1", text)) for name, text in rows] == docs
    assert len(docs) == len(Invariant)


def test_a_violation_says_what_where_and_how() -> None:
    (found,) = check(LEDGER, replace(STORES, schedules={}))
    assert found.invariant is Invariant.SCHEDULE
    assert str(found) == "agent-7--daily: schedule: new is live, and Temporal has nothing"
