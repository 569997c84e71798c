"""A live ledger and two stores as values: what is verified, without servers."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from outbox.audit.comparison import Holding, Observed, Scheduled
from outbox.store.verifying import Row, Snapshot

CREATED = ("schedule.create.requested", "schedule.registered", "schedule.created")
DELETED = ("schedule.delete.requested", "schedule.unscheduled", "schedule.deleted")


def stamp(number: int) -> str:
    """The id of an intent; smaller numbers are older."""
    return str(UUID(int=number))


@dataclass
class LaneRows:
    """A lane's rows; each call adds an intent that has ended so, or hasn't."""

    name: str
    intents: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    queue: list[Row] = field(default_factory=list)
    live: str | None = None
    revision: str | None = None
    holds: bool = False

    def add(self, number: int, *types: str, owner: str = "alice", **request: Any) -> "LaneRows":
        """An intent with these events, each but the first settled under a lease of its own."""
        kind = types[0].split(".")[1]
        self.intents.append(
            {
                "id": UUID(int=number),
                "schedule_id": self.name,
                "kind": kind,
                "position": number,
                "creator": {"user_id": owner} if kind == "create" else {},
                "request": request,
                "ran_out": False,
            }
        )
        for lease, one in enumerate(types):
            self.events.append(
                {
                    "intent_id": UUID(int=number),
                    "schedule_id": self.name,
                    "type": one,
                    "lease_number": lease or None,
                    "error_code": None,
                }
            )
        if types[-1] == "schedule.created":
            self.live = stamp(number)
        if types[-1] == "schedule.deleted":
            self.live = None
        return self

    def wait(self, number: int, place: str = "head", state: str = "leased", **changes: Any) -> "LaneRows":
        """The last event's step is pending."""
        self.queue.append(
            {
                "intent_id": UUID(int=number),
                "schedule_id": self.name,
                "event_type": self.events[-1]["type"],
                "place": place,
                "state": state,
                "lease_number": 9,
                "error_code": None,
                "error_message": None,
                **changes,
            }
        )
        return self

    @property
    def row(self) -> Row:
        """Its row of ``outbox.lanes``."""
        return {
            "schedule_id": self.name,
            "live_intent": self.live,
            "revision": self.revision,
            "holds": self.holds,
        }


def live(name: str, number: int = 1) -> LaneRows:
    """A lane with one create that stands."""
    return LaneRows(name).add(number, *CREATED)


def registered(name: str, number: int = 1, owner: str = "alice", *more: str) -> Holding:
    """What SpiceDB has of such a lane."""
    agent = name.partition("--")[0]
    words = {f"owner@user:{owner}", f"parent_agent@agent:{agent}"}
    return Holding(frozenset({*words, f"registered_by@outbox_intent:{stamp(number)}", *more}))


def whole(name: str, number: int = 1) -> Observed:
    """What both stores have of such a lane."""
    return Observed(registered(name, number), Scheduled(stamp(number)))


@dataclass
class World:
    """The three, and what was asked of them.

    Attributes:
        meanwhile: called when the stores are asked of a name.
    """

    lanes_by_name: dict[str, LaneRows] = field(default_factory=dict)
    held: dict[str, Observed] = field(default_factory=dict)
    marked: set[str] = field(default_factory=set)
    pruned_before: str = ""
    meanwhile: Callable[[str], None] = lambda _: None
    pages: list[list[str]] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)
    asked_marks: set[str] = field(default_factory=set)

    async def page(self, after: str, most: int) -> Snapshot:
        names = sorted(name for name in self.lanes_by_name if name > after)[:most]
        self.pages.append(names)
        return self._snapshot(names)

    async def lanes(self, names: Sequence[str]) -> Snapshot:
        return self._snapshot([name for name in names if name in self.lanes_by_name])

    async def observed(self, name: str) -> Observed:
        self.looks.append(name)
        found = self.held.get(name, Observed())
        self.meanwhile(name)
        return found

    async def ended(self, stamps: Collection[str]) -> set[str]:
        self.asked_marks |= set(stamps)
        return self.marked.intersection(stamps)

    def _snapshot(self, names: Sequence[str]) -> Snapshot:
        lanes = [self.lanes_by_name[name] for name in names]
        return Snapshot(
            names=list(names),
            intents=[row for lane in lanes for row in lane.intents],
            events=[row for lane in lanes for row in lane.events],
            queue=[row for lane in lanes for row in lane.queue],
            lanes=[lane.row for lane in lanes],
            cut=(),
            queued=(),
            pruned_before=self.pruned_before,
        )
