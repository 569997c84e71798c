"""The demo's workload, as data: what its producers ask for, in which waves, and how each intent must end."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from outbox.errors import ErrorCode
from outbox.flow.table import EventType
from outbox.producer.requests import CreateSchedule, DeleteSchedule, Entry, Principal, UpdateSchedule


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of request: what is asked for, how it must end, and why so, in words."""

    asked: str
    event: EventType
    error: ErrorCode | None
    because: str


NEW = Case("a new schedule", EventType.CREATED, None, "registered in SpiceDB first, then created in Temporal")
ANONYMOUS = Case(
    "a new schedule, by nobody",
    EventType.CREATED,
    None,
    "no user and no service account to own it: registration skipped, schedule created",
)
AGAIN = Case(
    "a deleted one again, by another owner",
    EventType.CREATED,
    None,
    "the new owner's alone: nothing of the former one is left",
)
MOVED = Case(
    "delete and create in one transaction",
    EventType.CREATED,
    None,
    "in the order of the calls: gone for the old owner, there for the new one",
)
TAKEN = Case(
    "a name that is live already",
    EventType.CREATE_FAILED,
    ErrorCode.CONFLICT_LIVE,
    "the lane's own schedule has the name: delete it first",
)
BAD_CRON = Case(
    "a cron expression that is none",
    EventType.CREATE_FAILED,
    ErrorCode.REFUSED,
    "Temporal refused it, so its registration in SpiceDB was compensated",
)
BAD_ZONE = Case(
    "a time zone that is none",
    EventType.CREATE_FAILED,
    ErrorCode.REFUSED,
    "Temporal refused it, so its registration in SpiceDB was compensated",
)
HELD_IN_SPICEDB = Case(
    "a name that a stranger holds in SpiceDB",
    EventType.CREATE_FAILED,
    ErrorCode.CONFLICT_FOREIGN,
    "refused before Temporal was called; the stranger's relationships stay",
)
HELD_IN_TEMPORAL = Case(
    "a name that a stranger holds in Temporal",
    EventType.CREATE_FAILED,
    ErrorCode.CONFLICT_FOREIGN,
    "our registration was compensated; the stranger's schedule stays",
)
CHANGED = Case(
    "a change of a live schedule",
    EventType.UPDATED,
    None,
    "written over what carries the live stamp; what it doesn't name stays",
)
GONE = Case("a delete", EventType.DELETED, None, "deleted in Temporal first, then deregistered in SpiceDB")
NEVER_WAS = Case(
    "a delete of what never was", EventType.DELETED, None, "nothing there is what a delete asks for"
)


@dataclass(frozen=True, slots=True)
class Planned:
    """One request, and how it must end.

    Attributes:
        repeated: it is enqueued twice, under one idempotency key, and must give one intent.
    """

    entry: Entry
    case: Case
    repeated: bool = False

    @property
    def schedule_id(self) -> str:
        """What it is about."""
        return self.entry.request.schedule_id


@dataclass(frozen=True, slots=True)
class Stranger:
    """A schedule's name that somebody else holds, from before and without the outbox."""

    schedule_id: str
    store: str
    owner: str


@dataclass(frozen=True, slots=True)
class Left:
    """What is left for operators to look at, once all has been verified.

    Attributes:
        parked: what a worker with a defect sets aside.
        failing: creates with one and the same mistake.
        removed: the schedule that somebody deletes in Temporal, past the outbox.
    """

    parked: Planned
    failing: list[Planned]
    removed: str


@dataclass(frozen=True, slots=True)
class Workload:
    """Waves of transactions, in the order in which the demo's producers commit them.

    Attributes:
        strangers: what is put into the stores beforehand, and must be there untouched at the end.
        example: the schedule id that the closing hints speak of.
    """

    run: str
    waves: tuple[tuple[tuple[Planned, ...], ...], ...]
    strangers: tuple[Stranger, ...]
    example: str
    aftermath: Left


_AGENTS = {
    "billing-agent": Principal(user_id="alice", account_id="acme"),
    "research-agent": Principal(user_id="bob", account_id="acme"),
    "support-agent": Principal(user_id="carol", account_id="acme"),
    "release-agent": Principal(service_account_id="ci-bot", account_id="acme"),
    "inventory-agent": Principal(user_id="dave", account_id="globex"),
    "compliance-agent": Principal(user_id="erin", account_id="globex"),
    "marketing-agent": Principal(user_id="frank", account_id="globex"),
    "data-agent": Principal(service_account_id="etl-bot", account_id="globex"),
}
_SUCCESSOR = Principal(user_id="grace", account_id="acme")
_FIRST: dict[str, str | int] = {
    "daily-report": "0 9 * * *",
    "hourly-sync": 3_600,
    "weekly-digest": "0 8 * * 1",
    "nightly-backup": "30 2 * * *",
    "month-end-close": "0 6 1 * *",
    "inbox-triage": 7_200,
    "quota-check": 21_600,
}
_SECOND: dict[str, str | int] = {
    "cache-refresh": 10_800,
    "anomaly-scan": "15 */6 * * *",
    "ticket-summary": "0 17 * * 1-5",
    "cost-forecast": "0 7 * * 1",
    "log-rotation": 43_200,
}
_THIRD: dict[str, str | int] = {
    "token-renewal": 28_800,
    "standup-notes": "45 8 * * 1-5",
    "index-rebuild": "0 3 * * 0",
    "usage-export": 86_400,
}
_DELETED = ("weekly-digest", "nightly-backup", "quota-check")
_AGAIN = ("weekly-digest", "nightly-backup")
_MOVED = "inbox-triage"


def build(run: str) -> Workload:
    """Make the workload; ``run`` goes into each agent's id, so that runs don't meet."""
    agents = {f"{name}-{run}": owner for name, owner in _AGENTS.items()}
    billing, research = f"billing-agent-{run}", f"research-agent-{run}"
    first = [_creates(agent, owner, _FIRST) for agent, owner in agents.items()]
    second = [
        (
            *_creates(agent, owner, _SECOND),
            _update(agent, "hourly-sync", owner, interval_seconds=1_800, note="twice as often"),
            *(_delete(agent, name, owner, GONE) for name in _DELETED),
        )
        for agent, owner in agents.items()
    ]
    third = [
        (*_creates(agent, owner, _THIRD), *_handed_over(agent, owner)) for agent, owner in agents.items()
    ]
    return Workload(
        run,
        waves=(
            (*first, *_refused(billing, research)),
            (*second, (_delete(research, "never-was", agents[research], NEVER_WAS),)),
            tuple(third),
        ),
        strangers=(
            Stranger(f"{billing}--audit-trail", "SpiceDB", "zoe"),
            Stranger(f"{research}--old-crawler", "Temporal", "another system"),
        ),
        example=f"{billing}--daily-report",
        aftermath=_left(run, removed=f"{research}--hourly-sync"),
    )


def _left(run: str, *, removed: str) -> Left:
    onboarding, owner = f"onboarding-agent-{run}", Principal(user_id="heidi", account_id="globex")
    failing = [
        _create(onboarding, f"welcome-{number:02}", owner, BAD_CRON, "0 25 * * *") for number in range(1, 13)
    ]
    return Left(_create(onboarding, "kick-off", owner, NEW, 3_600), failing, removed)


def _creates(agent: str, owner: Principal, names: dict[str, str | int]) -> tuple[Planned, ...]:
    return tuple(_create(agent, name, owner, NEW, when) for name, when in names.items())


def _handed_over(agent: str, owner: Principal) -> Iterator[Planned]:
    for name in _AGAIN:
        yield _create(agent, name, _SUCCESSOR, AGAIN, _FIRST[name])
    yield _delete(agent, _MOVED, owner, GONE)
    yield _create(agent, _MOVED, _SUCCESSOR, MOVED, _FIRST[_MOVED])


def _refused(billing: str, research: str) -> tuple[tuple[Planned, ...], ...]:
    alice, bob = _AGENTS["billing-agent"], _AGENTS["research-agent"]
    return (
        (_create(billing, "typo", alice, BAD_CRON, "every monday at nine"),),
        (_create(research, "mars-shift", bob, BAD_ZONE, "0 9 * * *", timezone="Mars/Olympus_Mons"),),
        (_create(billing, "audit-trail", alice, HELD_IN_SPICEDB, 3_600),),
        (_create(research, "old-crawler", bob, HELD_IN_TEMPORAL, 3_600),),
        (_create(billing, "daily-report", _SUCCESSOR, TAKEN, 3_600),),
        (_create(research, "no-owner", Principal(account_id="acme"), ANONYMOUS, 3_600),),
        (_create(billing, "invoice-run", alice, NEW, "0 5 * * *", key=f"{billing}/invoice-run"),),
    )


def _create(
    agent: str,
    name: str,
    owner: Principal,
    case: Case,
    when: str | int,
    *,
    timezone: str | None = None,
    key: str | None = None,
) -> Planned:
    request = CreateSchedule(
        agent_id=agent,
        name=name,
        workflow_name="RunAgent",
        task_queue="agents",
        workflow_params={"agent": agent, "task": name},
        cron_expression=when if isinstance(when, str) else None,
        interval_seconds=when if isinstance(when, int) else None,
        timezone=timezone,
    )
    return Planned(Entry(request, owner, key), case, repeated=key is not None)


def _update(agent: str, name: str, owner: Principal, **changes: Any) -> Planned:
    return Planned(Entry(UpdateSchedule(agent_id=agent, name=name, **changes), owner), CHANGED)


def _delete(agent: str, name: str, owner: Principal, case: Case) -> Planned:
    return Planned(Entry(DeleteSchedule(agent_id=agent, name=name), owner), case)
