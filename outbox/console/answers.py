"""What the API answers, as its document says it. Fields may be added; none is taken away."""

from datetime import datetime
from typing import Any, Literal, NotRequired
from uuid import UUID

from typing_extensions import TypedDict

from outbox.audit.drift import DriftKind, Fix
from outbox.flow.table import Consumer, EventType, Kind, Status
from outbox.store.blockers import Blocker
from outbox.store.halts import Halt
from outbox.store.sessions import Holder

Json = dict[str, Any]
"""An object whose fields are somebody else's."""


class Error(TypedDict):
    """Why something failed, or waits."""

    code: str
    message: str


class IntentError(Error):
    """The same of an intent, with the page that says what to do about it."""

    help: str


class Refusal(TypedDict):
    """Why a call was not answered."""

    error: Error


class Intent(TypedDict):
    """What was asked for, and where it stands."""

    intent_id: UUID
    schedule_id: str
    kind: Kind
    status: Status
    event_type: EventType
    error: IntentError | None
    created_at: datetime
    updated_at: datetime
    attempts: int
    replays_of: UUID | None
    trace_id: str | None


class Event(TypedDict):
    """A line of the event log."""

    type: EventType
    at: datetime
    consumer: Consumer | None
    attempt: int | None
    error: IntentError | None
    superseded_by: UUID | None


class Attempt(TypedDict):
    """An attempt that did not settle its step."""

    step: EventType
    at: datetime
    consumer: Consumer
    attempt: int
    then: str
    error: IntentError | None


class IntentStory(Intent):
    """An intent with all that happened to it."""

    events: list[Event]
    failed_attempts: list[Attempt]


class IntentWithRequest(IntentStory):
    """The same with what it asks for and for whom, where requests are shown."""

    request: NotRequired[Json]
    creator: NotRequired[Json]


class Intents(TypedDict):
    """A page of intents, the newest first."""

    intents: list[Intent]
    next: UUID | None


class Breaker(TypedDict):
    """A store that can't be used."""

    consumer: Consumer
    since: datetime
    probe_at: datetime
    failures: int
    error_code: str
    error_message: str


class Worker(TypedDict):
    """A process that was seen at work in the last hour."""

    id: UUID
    host: str
    pid: int
    version: str
    wire: str
    serves: list[str]
    started_at: datetime
    seen_at: datetime
    present: bool


class Rounds(TypedDict):
    """Where the continuous audit is, and what its last whole round found."""

    began_at: datetime | None
    looked: int
    live: int
    found: dict[str, int]
    last_began_at: datetime | None
    last_ended_at: datetime | None
    last_looked: int | None
    last_live: int | None
    last_found: dict[str, int] | None


class Minute(TypedDict):
    """A minute of the last hour; outcomes and seconds are those of a sample."""

    at: datetime
    placed: int
    succeeded: int
    failed: int
    median: float | None
    most: float | None


class Overview(TypedDict):
    """The whole outbox in figures; those that ``estimated`` names are estimates."""

    pending: int
    dispatched: int
    leased: int
    waiting_retry: int
    holding: int
    parked: int
    halted: int
    ready: int
    incoming: int
    behind: int
    deferred: int
    unpublished: int
    estimated: list[str]
    oldest_head_age_seconds: float | None
    oldest_unparked_head_age_seconds: float | None
    oldest_head: str | None
    ended_last_minute: dict[EventType, int]
    breakers: list[Breaker]
    halts: list[Halt]
    workers: list[Worker]
    audit: Rounds
    oldest_transaction: Holder | None
    blocked_by: Blocker | None
    last_hour: list[Minute]


class Ledger(TypedDict):
    """What the ledger says of a schedule."""

    live_intent: UUID | None
    adopted: bool
    revision: UUID | None
    creator: Json | None
    ran_out: bool
    under_way: bool


class Registration(TypedDict):
    """What SpiceDB says of it."""

    relationships: list[str]


class Scheduled(TypedDict):
    """What Temporal says of it."""

    stamp: str | None
    instance: str | None
    revision: str | None
    workflow: str
    task_queue: str
    paused: bool
    note: str | None
    runs: int
    last_runs: list[datetime]
    next_runs: list[datetime]
    missed: int


class Unreadable(TypedDict):
    """A store that can't be read now."""

    error: Error


class Difference(TypedDict):
    """Where a store differs from the ledger."""

    kind: DriftKind
    detail: str
    fix: Fix
    ours: bool


class Operation(TypedDict):
    """What an operator did."""

    id: int
    at: datetime
    action: str
    who: str
    role: str
    why: str | None
    target: str
    intent_id: UUID | None
    outcome: str
    detail: str
    made: UUID | None
    items: int


class Operations(TypedDict):
    """A page of them, the newest first."""

    operations: list[Operation]
    next: int | None


class Schedule(TypedDict):
    """One lane, and what each store holds of it; ``agrees`` is null where that can't be told."""

    schedule_id: str
    waits_because: str | None
    waits_until: datetime | None
    head: UUID | None
    behind: int
    halts: list[Halt]
    intents: list[IntentStory]
    operations: list[Operation]
    ledger: Ledger | None
    spicedb: Registration | Unreadable | None
    temporal: Scheduled | Unreadable | None
    agrees: bool | None
    differences: list[Difference]


class Group(TypedDict):
    """Failed or parked intents that are alike, with the youngest of them."""

    group_id: str
    status: Literal[Status.FAILED, Status.PARKED]
    consumer: Consumer | None
    step: EventType
    error_code: str
    pattern: str
    count: int
    first_at: datetime
    last_at: datetime
    example_id: UUID
    example_schedule: str | None
    example_message: str | None


class Groups(TypedDict):
    """All groups, the youngest first."""

    groups: list[Group]


class Failed(Intent):
    """An intent, and when it failed or was parked."""

    failed_at: datetime


class Members(TypedDict):
    """A page of a group, the last to fail first."""

    group_id: str
    intents: list[Failed]
    next: UUID | None


class DriftsOfKind(TypedDict):
    """How many drifts there are of a kind."""

    kind: DriftKind
    fix: Fix
    count: int
    found_at: datetime
    ours: bool
    mended_by: str | None


class Drift(TypedDict):
    """A schedule that differs, with what was asked of its lane since."""

    schedule_id: str
    kind: DriftKind
    detail: str
    fix: Fix
    found_at: datetime
    intent_since: UUID | None
    kind_since: Kind | None
    status_since: Status | None
    ours: bool
    mended_by: str | None


class Audit(TypedDict):
    """What the continuous audit has found."""

    rounds: Rounds
    braked: list[str]
    kinds: list[DriftsOfKind]
    drifts: list[Drift]
    next: str | None


class Replay(TypedDict):
    """A replay in waves, and how many of it came out how."""

    id: int
    who: str
    why: str | None
    forced: bool
    waves: list[int]
    tolerated: float
    state: Literal["planned", "running", "done", "stopped", "aborted"]
    wave: int
    planned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    ended_as: str | None
    planned: int
    refused: int
    replayed: int
    skipped: int
    succeeded: int
    failed_again: int


class Replays(TypedDict):
    """A page of them, the newest first."""

    replays: list[Replay]
    next: int | None


class Alike(TypedDict):
    """What is planned, or came, of several intents of a replay, with the first of them."""

    action: str
    reason: str
    count: int
    example_id: UUID
    example_schedule: str | None


class Wave(TypedDict):
    """How a wave has come out so far."""

    wave: int
    replayed: int
    skipped: int
    succeeded: int
    failed_again: int


class ReplayStory(Replay):
    """A replay with its reasons and its waves."""

    answers: list[Alike]
    by_wave: list[Wave]


class Item(TypedDict):
    """What is planned, or came, of one intent of a replay."""

    number: int
    intent_id: UUID
    schedule_id: str | None
    action: str
    reason: str
    wave: int | None
    followed: UUID | None
    outcome: Status | None


class Items(TypedDict):
    """Some of them, in order."""

    items: list[Item]
    next: int | None


class Check(TypedDict):
    """What a look at a component has found."""

    component: str
    check: str
    ok: bool
    problem: str | None
    fix: str | None
    help: str | None


class Doctor(TypedDict):
    """How each component is."""

    components: list[Check]


class Setting(TypedDict):
    """A setting; a secret is masked."""

    name: str
    value: str | bool | int | float
    default: str | bool | int | float
    set: bool
    meaning: str


class Settings(TypedDict):
    """All settings."""

    settings: list[Setting]


class OfSchedule(TypedDict):
    """What became, or would become, of a request to mend a schedule."""

    schedule_id: str
    action: str
    reason: str
    new_intent_id: UUID | None
    seen: str


class OfIntent(TypedDict):
    """What became, or would become, of a request to replay or discard an intent."""

    intent_id: UUID
    schedule_id: str | None
    action: str
    reason: str
    new_intent_id: UUID | None
    seen: str


class OfHalt(TypedDict):
    """What became, or would become, of a hold or a release, with how much waits for it."""

    what: str
    action: str
    reason: str
    heads: int
    behind: int
    estimated: bool
    under_way: int
    until: datetime | None
    seen: str


class OfSchedules(TypedDict):
    """An answer for each schedule."""

    answers: list[OfSchedule]


class OfIntents(TypedDict):
    """An answer for each intent."""

    answers: list[OfIntent]


class OfHalts(TypedDict):
    """The answer."""

    answers: list[OfHalt]


class Document(TypedDict):
    """An OpenAPI document."""

    openapi: str
    info: Json
    paths: dict[str, Json]
    security: list[Json]
    components: Json
