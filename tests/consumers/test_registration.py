"""Which relationships register a schedule, and whose a schedule is by its relationships."""

import pytest

from consumers.authz.client import Tuple
from consumers.authz.effects import creator_of, owner_of, relationships_of
from outbox.flow.dispatch import Creator

ALICE, ROBOT = Creator(user_id="alice", account_id="acme"), Creator(service_account_id="robot")


def owned_by(kind: str, name: str) -> Tuple:
    return Tuple("agent_schedule", "a--s", "owner", kind, name)


STAMP = Tuple("agent_schedule", "a--s", "registered_by", "outbox_intent", "i7")
PARENT = Tuple("agent_schedule", "a--s", "parent_agent", "agent", "a")
READER = Tuple("agent_schedule", "a--s", "reader", "user", "rita")


@pytest.mark.parametrize(
    ("creator", "owner"),
    [
        (ALICE, ("user", "alice")),
        (ROBOT, ("service_account", "robot")),
        (Creator(user_id="alice", service_account_id="robot"), ("user", "alice")),
    ],
)
def test_a_registration_is_owner_parent_and_stamp(creator: Creator, owner: tuple[str, str]) -> None:
    assert owner_of(creator) == owner
    assert relationships_of("a--s", creator, "i7") == {owned_by(*owner), PARENT, STAMP}


def test_without_an_identity_there_is_nothing_to_register() -> None:
    nobody = Creator(account_id="acme")
    assert owner_of(nobody) is None
    assert relationships_of("a--s", nobody, "i7") == frozenset()


@pytest.mark.parametrize(
    ("tuples", "creator"),
    [
        ([owned_by("user", "alice")], Creator(user_id="alice")),
        ([STAMP, owned_by("user", "alice"), READER, PARENT], Creator(user_id="alice")),
        ([owned_by("service_account", "robot"), PARENT], Creator(service_account_id="robot")),
        ([owned_by("team", "red")], None),
        ([owned_by("user", "alice"), owned_by("user", "bob")], None),
        ([STAMP, READER], None),
        ([], None),
    ],
)
def test_a_schedule_is_its_one_owners(tuples: list[Tuple], creator: Creator | None) -> None:
    assert creator_of(tuples) == creator
