"""What the producers of a campaign ask for: lanes with a script each, all from one seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from outbox import CreateSchedule, DeleteSchedule, Principal, UpdateSchedule

BAD_CRON = "not a cron"


@dataclass(frozen=True)
class Entry:
    """One intent: a create by somebody, an update, or a delete.

    Attributes:
        shared: once it is created, its owner lets somebody else read it.
        linger_seconds: how long its transaction stays open once it is enqueued.
        thought_over: its producer asks for it once before, under a key of its own, and rolls back.
    """

    request: CreateSchedule | UpdateSchedule | DeleteSchedule
    principal: Principal
    key: str
    shared: bool
    linger_seconds: float
    thought_over: bool = False


@dataclass(frozen=True)
class Lane:
    """Requests for one schedule.

    Attributes:
        held: what others hold there before: ``legacy`` in both stores, ``spicedb`` or ``temporal`` of a
            stranger.
        side_by_side: the entries are enqueued by as many producers at once, else one after another.
    """

    schedule_id: str
    entries: Sequence[Entry]
    held: str | None
    side_by_side: bool


SCRIPTS: dict[str, tuple[str, ...]] = {
    "lives": ("create alice",),
    "comes and goes": ("create alice", "delete"),
    "changes hands": ("create alice", "delete", "create bob"),
    "changes hands twice": ("create alice", "delete", "create bob", "delete", "create carol"),
    "is a robot's": ("create robot", "delete", "create robot"),
    "is shared": ("share alice",),
    "is shared and changes hands": ("share alice", "delete", "create bob"),
    "is refused": ("broken alice", "create bob"),
    "is refused and deleted": ("broken alice", "delete", "create bob", "delete"),
    "is contested": ("create alice", "create bob", "delete", "create bob"),
    "is asked for side by side": (
        "create alice",
        "create bob",
        "delete",
        "create carol",
        "delete",
        "create dave",
    ),
    "is changed": ("create alice", "update", "update", "pause", "update"),
    "is changed and changes hands": ("create alice", "update", "delete", "create bob", "update"),
    "is changed for the worse": ("create alice", "update", "worsen", "update"),
    "is changed side by side": ("create alice", "update", "pause", "delete", "create bob", "update"),
    "has no owner": ("create nobody", "delete", "create alice"),
    "is deleted twice": ("create alice", "delete", "delete", "create bob"),
    "legacy": ("create alice", "delete", "create bob"),
    "foreign in spicedb": ("create alice", "create bob"),
    "foreign in temporal": ("create alice", "delete", "create bob"),
}
_HELD = {"legacy": "legacy", "foreign in spicedb": "spicedb", "foreign in temporal": "temporal"}
_PRINCIPALS = {"nobody": Principal(), "robot": Principal(service_account_id="robot")}
_CHANGES: dict[str, dict[str, Any]] = {
    "update": {"cron_expression": "0 4 * * *"},
    "pause": {"paused": True},
    "worsen": {"cron_expression": BAD_CRON},
}
_LINGERING = 0.05
_THOUGHT_OVER = 10
"""One in so many."""


def plan(rng: random.Random, intents: int, run: str) -> list[Lane]:
    """Lanes with about so many intents in all, every script among them; the run's name keeps agents apart."""
    lanes: list[Lane] = []
    names = list(SCRIPTS)
    asked = 0
    while asked < intents or len(lanes) < len(names):
        number = len(lanes)
        script = names[number] if number < len(names) else rng.choice(names)
        agent, name = f"{run}-{number % 7}", f"n{number}"
        entries = [
            _entry(rng, step, f"{run}-{number}-{at}", {"agent_id": agent, "name": name})
            for at, step in enumerate(SCRIPTS[script])
        ]
        entries = [
            replace(entry, thought_over=(asked + at) % _THOUGHT_OVER == 0) for at, entry in enumerate(entries)
        ]
        lanes.append(Lane(f"{agent}--{name}", entries, _HELD.get(script), script.endswith("side by side")))
        asked += len(entries)
    return lanes


def _entry(rng: random.Random, step: str, key: str, names: dict[str, Any]) -> Entry:
    what, _, who = step.partition(" ")
    linger = rng.uniform(0.5, 2) if rng.random() < _LINGERING else 0.0
    principal = _PRINCIPALS.get(who, Principal(user_id=who or "alice"))
    if what == "delete":
        return Entry(DeleteSchedule(**names), principal, key, shared=False, linger_seconds=linger)
    if what in _CHANGES:
        change = UpdateSchedule(**names, **_CHANGES[what], note=key)
        return Entry(change, principal, key, shared=False, linger_seconds=linger)
    cron = BAD_CRON if what == "broken" else "0 3 * * *"
    request = CreateSchedule(**names, workflow_name="Run", task_queue="agents", cron_expression=cron)
    return Entry(request, principal, key, shared=what == "share", linger_seconds=linger)
