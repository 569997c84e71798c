"""Three or four intents of one lane, and what others may hold there before them."""

from collections.abc import Iterator
from itertools import product

from consumers.authz.client import Tuple
from consumers.authz.names import INTENT, OWNER, REGISTERED_BY, SCHEDULE, USER
from outbox.flow.table import Kind
from tests.model.explore import Scenario
from tests.model.lane import LEGACY, SCHEDULE_ID, Entry
from tests.model.stores import Schedule, SpiceDB, Stores, Temporal

_ALICE, _BOB = Entry(Kind.CREATE, "alice"), Entry(Kind.CREATE, "bob")
_BAD, _NOBODY = Entry(Kind.CREATE, "alice", bad=True), Entry(Kind.CREATE, None)
_DELETE = Entry(Kind.DELETE)

_LANES = {
    "create, delete, create by another": (_ALICE, _DELETE, _BOB),
    "refused create, create by another, delete": (_BAD, _BOB, _DELETE),
    "create, create by another, delete": (_ALICE, _BOB, _DELETE),
    "create without identity, delete, create": (_NOBODY, _DELETE, _ALICE),
    "delete, create, delete": (_DELETE, _ALICE, _DELETE),
    "refused create, delete, create by another": (_BAD, _DELETE, _BOB),
    "create, delete, create by another, delete": (_ALICE, _DELETE, _BOB, _DELETE),
    "create, delete, create without identity": (_ALICE, _DELETE, _NOBODY),
}
_UPDATE, _BAD_UPDATE = Entry(Kind.UPDATE), Entry(Kind.UPDATE, bad=True)
_CHANGED = {
    "create, update, update": (_ALICE, _UPDATE, _UPDATE),
    "create, refused update, update": (_ALICE, _BAD_UPDATE, _UPDATE),
    "create, update, delete, create by another": (_ALICE, _UPDATE, _DELETE, _BOB),
    "update, create, update": (_UPDATE, _ALICE, _UPDATE),
}
_ADOPT = Entry(Kind.REPAIR)
_ADOPTED = {
    "adopt, adopt": (_ADOPT, _ADOPT),
    "adopt, delete": (_ADOPT, _DELETE),
    "adopt, create, update, delete": (_ADOPT, _ALICE, _UPDATE, _DELETE),
}
_STRANGER = "another-outbox"
_OWNED = Tuple(SCHEDULE, SCHEDULE_ID, OWNER, USER, "mallory")
_STAMPED = Tuple(SCHEDULE, SCHEDULE_ID, REGISTERED_BY, INTENT, _STRANGER)

_LEGACY = Stores(SpiceDB(frozenset({_OWNED})), Temporal(Schedule(None, definition=LEGACY), "theirs"))
_BEFORE = {
    "a free name": Stores(),
    "a legacy schedule": _LEGACY,
    "foreign relationships": Stores(SpiceDB(frozenset({_OWNED, _STAMPED}))),
    "a foreign schedule": Stores(temporal=Temporal(Schedule(_STRANGER), "theirs")),
}


def scenarios() -> Iterator[Scenario]:
    for (lane, entries), (held, before) in product(_LANES.items(), _BEFORE.items()):
        yield Scenario(f"{lane}; {held}", entries, before, legacy=held == "a legacy schedule")
    for lane, entries in _CHANGED.items():
        yield Scenario(lane, entries)
    for lane, entries in _ADOPTED.items():
        yield Scenario(lane, entries, _LEGACY, legacy=True)
