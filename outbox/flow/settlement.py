"""What an outcome does to its step: one pure function, from dispatch and outcome to the settling row."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never
from uuid import UUID

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Dispatch
from outbox.flow.outcome import Conflict, Done, Failure, Misconfigured, Outcome, Refused, Transient, Unknown
from outbox.flow.table import STEPS, TERMINALS, Consumer, Effect, EventType, Live

# A store that is away, silent or busy is no reason to give a step up; one that answers and still can't settle
# it is.
_STRIKES = frozenset({ErrorCode.RACED, ErrorCode.UNEXPECTED})
# Probed by one step at a time until it answers as it should; a store that asks for patience gets it, too. One
# that lets a whole deadline pass in silence may hang: if others of its steps go through, they close it again.
_DOWN = frozenset({ErrorCode.UNREACHABLE, ErrorCode.OVERLOADED, ErrorCode.TIMED_OUT, ErrorCode.MISCONFIGURED})
# What a registration may not go on with for ever.
_PATIENCE = frozenset({ErrorCode.RACED, ErrorCode.OVERLOADED})
_NOTHING_LEARNT = Done()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a step waits between attempts, and how often it may fail while its store answers.

    Attributes:
        base_seconds: the wait after the first failure; it doubles with each further one.
        cap_seconds: the longest wait.
        max_strikes: the failed attempts after which a step parks.
        registration_seconds: how long a registration may stay impossible, counted while SpiceDB answers,
            before its create fails.
    """

    base_seconds: float = 0.5
    cap_seconds: float = 60.0
    max_strikes: int = 12
    registration_seconds: float = 600.0

    def delay(self, attempt: int, jitter: random.Random) -> float:
        """Seconds to wait after the ``attempt``-th failure (from 1): half fixed, half random."""
        longest = min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 62))
        return longest * (0.5 + jitter.random() / 2)


class Action(StrEnum):
    """What becomes of the step."""

    ADVANCE = "advance"
    RETRY = "retry"
    HOLD = "hold"
    PARK = "park"


class StoreHealth(StrEnum):
    """What the attempt says of its store: opens or closes the store's breaker."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Redefinition:
    """What is live is defined anew, or an update's run goes on in another way.

    Attributes:
        split: each intent of the run is tried by itself from now on.
        through: of an update that is done, the last intent of its run that has taken effect.
        run: those of its run that end with it, or are split with it.
        definition: what is live was defined so, where the ledger doesn't know.
        revision: the intent that changed what is reclaimed last.
    """

    split: bool = False
    through: UUID | None = None
    run: Sequence[UUID] = ()
    definition: Mapping[str, Any] | None = None
    revision: UUID | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """One row for the store's settle: names event and lease, so that a stale one matches nothing.

    Attributes:
        waits: the next step (of a retry: attempt) is due only when no unknown one of the intent can land.
        unknown: this attempt may have taken effect, or may yet.
        strike: the attempt counts towards parking.
        patient: the store answered; the wait until the next attempt counts as patience spent on it.
        delay_seconds: for a retry, how long the step waits.
        redefines: what becomes of the lane's definition, and of an update's run; None, mostly: nothing.
    """

    intent_id: UUID
    schedule_id: str
    event_type: EventType
    consumer: Consumer
    lease_number: int
    attempt: int
    action: Action
    next_event: EventType | None = None
    next_consumer: Consumer | None = None
    terminal: bool = False
    live: Live = Live.KEEP
    waits: bool = False
    unknown: bool = False
    strike: bool = False
    patient: bool = False
    delay_seconds: float = 0.0
    redefines: Redefinition | None = None
    error_code: ErrorCode | None = None
    error_message: str | None = None
    zed_token: str | None = None
    store: StoreHealth | None = None


def decide(dispatch: Dispatch, outcome: Outcome, policy: RetryPolicy, jitter: random.Random) -> Settlement:
    """Turn the outcome of one attempt into its settlement, by the flow."""
    match outcome:
        case Done():
            return _done(dispatch, outcome)
        case Refused() | Conflict():
            return _rejected(dispatch, outcome, policy, jitter)
        case Transient(code=code, retry_after=retry_after):
            if _expired(dispatch, code, policy):
                late = Refused(ErrorCode.REGISTRATION_EXPIRED, f"for too long: {outcome.message}")
                return _rejected(dispatch, late, policy, jitter)
            strike, down = code in _STRIKES, code in _DOWN
            return _again(
                dispatch, outcome, policy, jitter, strike=strike, down=down, retry_after=retry_after
            )
        case Unknown(code=code):
            strike, down = code in _STRIKES, code in _DOWN
            return _again(dispatch, outcome, policy, jitter, strike=strike, unknown=True, down=down)
        case Misconfigured():
            return _again(dispatch, outcome, policy, jitter, strike=False, down=True)
        case _:
            assert_never(outcome)


def _expired(dispatch: Dispatch, code: ErrorCode, policy: RetryPolicy) -> bool:
    """Whether a registration has been impossible for too long; a look is no registration."""
    registers = dispatch.step.effect is Effect.REGISTER and not dispatch.look
    return registers and code in _PATIENCE and dispatch.patience >= policy.registration_seconds


def park(dispatch: Dispatch, cause: Cause) -> Settlement:
    """Set a step aside for a person; it holds its lane until replayed or discarded."""
    return Settlement(
        **_names(dispatch), action=Action.PARK, error_code=cause.code, error_message=cause.message
    )


def _names(dispatch: Dispatch) -> dict[str, Any]:
    return {
        "intent_id": dispatch.intent_id,
        "schedule_id": dispatch.schedule_id,
        "event_type": dispatch.event_type,
        "consumer": dispatch.consumer,
        "lease_number": dispatch.lease_number,
        "attempt": dispatch.attempt,
    }


def _advance(
    dispatch: Dispatch,
    event: EventType,
    *,
    cause: Cause | None = None,
    done: Done = _NOTHING_LEARNT,
) -> Settlement:
    terminal = TERMINALS.get(event)
    following = STEPS.get(event)
    run = dispatch.run if event is EventType.UPDATED else ()
    if done.through is not None:
        run = run[: run.index(done.through) + 1]
    return Settlement(
        **_names(dispatch),
        action=Action.ADVANCE,
        next_event=event,
        next_consumer=following.consumer if following else None,
        terminal=terminal is not None,
        live=(done.live or terminal.live) if terminal else Live.KEEP,
        redefines=_redefinition(run, done),
        waits=following is not None and following.undoes,
        error_code=cause.code if cause else None,
        error_message=cause.message if cause else None,
        zed_token=done.zed_token,
        store=StoreHealth.UP,
    )


def _redefinition(run: Sequence[UUID], done: Done) -> Redefinition | None:
    if not run and done.definition is None and done.revision is None:
        return None
    last = run[-1] if run else None
    return Redefinition(through=last, run=run[1:], definition=done.definition, revision=done.revision)


def _done(dispatch: Dispatch, outcome: Done) -> Settlement:
    step = dispatch.step
    event = step.skipped if outcome.skipped and step.skipped else step.done
    # A compensation that is done ends its intent with what made it necessary.
    cause = None if dispatch.look else dispatch.cause
    return _advance(dispatch, event, cause=cause, done=outcome)


def _rejected(
    dispatch: Dispatch, outcome: Refused | Conflict, policy: RetryPolicy, jitter: random.Random
) -> Settlement:
    step = dispatch.step
    # A repair that meets a conflict is done with it; it says so only where it has something to take back.
    gives_up = step.rejected is not None or isinstance(outcome, Conflict)
    if gives_up and dispatch.unknown and not dispatch.look:
        return Settlement(
            **_names(dispatch),
            action=Action.HOLD,
            error_code=outcome.code,
            error_message=outcome.message,
            store=StoreHealth.UP,
        )
    if step.rejected is None:
        # What can only converge is retried, whatever the store says, until a person is needed.
        return _again(dispatch, outcome, policy, jitter, strike=True)
    if len(dispatch.run) > 1 and not dispatch.is_discarded:
        return _split(dispatch, outcome)
    if dispatch.look:
        cause = dispatch.cause or Cause(outcome.code, outcome.message)
        return _advance(dispatch, step.rejected_after_unknown or step.rejected, cause=cause)
    return _advance(dispatch, step.rejected, cause=Cause(outcome.code, outcome.message))


def _split(dispatch: Dispatch, outcome: Refused | Conflict) -> Settlement:
    """Try each update of a run by itself: one that can't be must not fail the others."""
    return Settlement(
        **_names(dispatch),
        action=Action.RETRY,
        redefines=Redefinition(split=True, run=dispatch.run[1:]),
        error_code=outcome.code,
        error_message=outcome.message,
        store=StoreHealth.UP,
    )


def _again(
    dispatch: Dispatch,
    failure: Failure,
    policy: RetryPolicy,
    jitter: random.Random,
    *,
    strike: bool,
    unknown: bool = False,
    down: bool = False,
    retry_after: float | None = None,
) -> Settlement:
    answered = isinstance(failure, Refused | Conflict) or failure.code is ErrorCode.RACED
    news = StoreHealth.DOWN if down else StoreHealth.UP if answered else None
    parks = strike and dispatch.strikes + 1 >= policy.max_strikes
    delay = policy.delay(dispatch.attempt, jitter) if retry_after is None else retry_after
    return Settlement(
        **_names(dispatch),
        action=Action.PARK if parks else Action.RETRY,
        unknown=unknown,
        waits=isinstance(failure, Transient | Unknown) and failure.waits,
        strike=strike,
        patient=failure.code in _PATIENCE,
        delay_seconds=delay,
        error_code=failure.code,
        error_message=failure.message,
        store=news,
    )
