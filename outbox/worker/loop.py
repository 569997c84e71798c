"""The worker: one loop, take -> apply -> settle.

Start reading at ``Worker.run``. It keeps the rules of leases and credit: no more steps are taken than can be
applied at once, every step is bounded by the deadline of its lease, and no outcome is lost: what can't be
told for sure is ``Unknown``.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import DBAPIError

from outbox import clock, current
from outbox.errors import ErrorCode
from outbox.failpoints import reach
from outbox.flow.dispatch import Cause, Dispatch, Effects
from outbox.flow.outcome import Done, Outcome, Unknown
from outbox.flow.settlement import Action, RetryPolicy, Settlement, decide, park
from outbox.flow.table import Consumer
from outbox.pulse import Pulse
from outbox.store.engine import is_passing, why
from outbox.worker.credit import Credit
from outbox.worker.observer import Observer, Unobserved
from outbox.worker.settler import Settler, Settles
from outbox.worker.source import Source
from outbox.worker.wake import WakeSignal

_POSTGRES_AWAY_SECONDS = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works.

    Attributes:
        concurrency: how many effects of each consumer run at once.
        poll_seconds: how long it waits when there is nothing to do.
        drain_seconds: how long steps under way may take to finish once it is told to stop.
        until_idle: stop by itself when nothing is left that goes on without a person.
    """

    concurrency: Mapping[Consumer, int]
    policy: RetryPolicy
    poll_seconds: float = 0.5
    drain_seconds: float = 15.0
    settle_batch_max: int = 250
    until_idle: bool = False


class Worker:
    """Takes steps from a source, applies them through the effects, settles them in Postgres."""

    def __init__(
        self,
        source: Source,
        store: Settles,
        effects: Mapping[Consumer, Effects],
        options: WorkerOptions,
        *,
        jitter: random.Random | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._source = source
        self._effects = effects
        self._options = options
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._observer = observer or Unobserved()
        self._pulse = Pulse()
        # Bound once: to look the logger up for each step costs as much as all else that is logged.
        self._log = log.bind()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._credit = Credit(options.concurrency)
        self._progress = WakeSignal()
        self._failure: BaseException | None = None
        self._settled_as: Counter[Action] = Counter()
        # A worker for one store alone must wake the workers of the other when it settles, and one that takes
        # from a relay must wake the relay.
        wakes = source.relayed or not {Consumer.AUTHZ, Consumer.TEMPORAL} <= set(effects)
        self._settler = Settler(
            store,
            batch_max=options.settle_batch_max,
            wake=wakes,
            room=self._room,
            on_settled=self._settled,
            observer=self._observer,
        )

    def stop(self) -> None:
        """Take no more steps, let those under way finish, then return from ``run``."""
        self._stopping.set()
        self._source.wake()

    async def run(self) -> None:
        """Work until stopped (or idle, where asked for), then drain.

        What was being claimed when it was told to stop is worked on like all else that is under way: its
        lease has begun.

        Raises:
            DBAPIError: Postgres answers that it can't be used (not migrated, not allowed).
            Exception: whatever the handling of a step raised, once the others are settled: a defect of ours.
                That step's outcome is gone: its lease ends, and another worker finds what became of it.
        """
        settling = asyncio.create_task(self._settler.run(), name="outbox-settler")
        settling.add_done_callback(lambda _: self.stop())
        try:
            while not self._stopping.is_set():
                self._pulse.beat()
                credit = self._credit.for_claim()
                taken = await self._take(credit)
                await reach("take.after")
                self._credit.claimed(taken)
                for dispatch in taken:
                    self._start(dispatch)
                if taken and len(taken) == sum(credit.values()):
                    continue
                if self._options.until_idle and await self._idle():
                    break
                await self._source.wait_for_work(self._options.poll_seconds)
        finally:
            await self._drain(settling)
        if self._failure is not None:
            raise self._failure

    def summary(self) -> dict[str, int]:
        """How many steps ended how: advanced, retried, held, parked, and settlements dropped as stale."""
        return {action.value: self._settled_as[action] for action in Action} | {
            "dropped": self._settler.dropped
        }

    @property
    def pulses(self) -> dict[str, Pulse]:
        """Tell whether its loop turns, and whether its settler does."""
        return {"loop": self._pulse, "settler": self._settler.pulse}

    @property
    def draining(self) -> bool:
        """Whether it was told to stop, and takes no more."""
        return self._stopping.is_set()

    def in_flight(self) -> Mapping[Consumer, int]:
        """How many steps of each consumer are under way: applied, or waiting to be settled."""
        return self._credit.in_flight

    async def _take(self, credit: Mapping[Consumer, int]) -> list[Dispatch]:
        if not credit:
            return []
        began = clock.monotonic()
        try:
            taken = await self._source.take(credit)
        except DBAPIError as error:
            if not is_passing(error):
                raise
            log.warning("take.postponed", reason=why(error))
            await asyncio.sleep(_POSTGRES_AWAY_SECONDS)
            # What was to be taken is there still, however rarely one polls.
            self._source.wake()
            return []
        self._observer.took(taken, clock.monotonic() - began)
        return taken

    def _start(self, dispatch: Dispatch) -> None:
        task = asyncio.create_task(self._work(dispatch), name=f"outbox-{dispatch.intent_id}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._progress.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("step.died", task=task.get_name(), exc_info=error)
            self._failure = self._failure or error
            self.stop()

    async def _work(self, dispatch: Dispatch) -> None:
        if dispatch.strikes >= self._options.policy.max_strikes:
            # It took its workers down with it as often as a step may fail.
            cause = Cause(ErrorCode.LEASE_EXPIRED, "every worker that took the step died or stalled")
            self._settler.put(park(dispatch, cause))
            return
        current.attempt.set(dispatch)
        self._observer.began(dispatch)
        began = clock.monotonic()
        outcome = await self._apply(dispatch)
        self._observer.attempted(dispatch, outcome, clock.monotonic() - began)
        await reach("decide.before")
        # First settled, then told: whatever becomes of the telling, the outcome is kept.
        self._settler.put(decide(dispatch, outcome, self._options.policy, self._jitter))
        self._tell(outcome)

    async def _apply(self, dispatch: Dispatch) -> Outcome:
        effects = self._effects[dispatch.consumer]
        try:
            async with asyncio.timeout(max(0.0, dispatch.remaining())):
                await reach("apply.before")
                outcome = await (effects.look(dispatch) if dispatch.look else effects.apply(dispatch))
                await reach("apply.after")
                return outcome
        except TimeoutError:
            return Unknown(ErrorCode.TIMED_OUT, "no answer before the step's deadline")
        except asyncio.CancelledError:
            return Unknown(ErrorCode.RELEASED, "the worker was stopped while the step was under way")
        except Exception as error:
            if isinstance(error, DBAPIError) and is_passing(error):
                # An effect asked our ledger whose a stamp is: no strike, as it passes by itself.
                return Unknown(ErrorCode.CONNECTION_LOST, f"postgres: {why(error)}"[:500])
            # Anything may have happened: it is unknown, and parks when it keeps happening.
            log.exception("step.unexpected")
            return Unknown(ErrorCode.UNEXPECTED, f"{type(error).__name__}: {error}"[:500])

    def _room(self, batch: Sequence[Settlement]) -> Mapping[Consumer, int]:
        """What a settle of these may hand over: a worker that stops takes nothing more."""
        return {} if self._stopping.is_set() else self._credit.for_settle(batch)

    def _settled(self, batch: Sequence[Settlement], handed: Sequence[Dispatch]) -> None:
        self._credit.settled(batch, handed)
        self._settled_as.update(settlement.action for settlement in batch)
        for dispatch in handed:
            self._start(dispatch)
        self._progress.set()
        # Where each step was followed by another, there is nothing to look for, and no room for more.
        if len(handed) < len(batch) or self._credit.short:
            self._source.wake()

    async def _idle(self) -> bool:
        if any(self._credit.in_flight.values()):
            return False
        try:
            return not await self._source.pending(repairs=Consumer.BOTH in self._effects)
        except DBAPIError as error:
            if not is_passing(error):
                raise
            # Who can't be asked isn't idle for sure.
            return False

    async def _drain(self, settling: asyncio.Task[None]) -> None:
        """Let the steps under way finish, release those that take too long, and settle all of them.

        What the settle under way hands over is under way like the rest: its lease has begun.
        """
        self._stopping.set()
        self._source.close()
        until = clock.monotonic() + self._options.drain_seconds
        while self._tasks or (self._credit.lent and not settling.done()):
            if (left := until - clock.monotonic()) <= 0:
                break
            await self._progress.wait(left)
        late = list(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        if settling.done():
            await settling
        # A batch cut off here is written again; where it had been committed, that matches nothing.
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        await self._settler.flush(give_up_at=until)

    def _tell(self, outcome: Outcome) -> None:
        level = logging.DEBUG if isinstance(outcome, Done) else logging.INFO
        if not self._log.is_enabled_for(level):
            return
        if isinstance(outcome, Done):
            self._log.debug("step.done")
        else:
            kind = type(outcome).__name__.lower()
            self._log.info("step.failed", outcome=kind, code=outcome.code.value, error=outcome.message)
