"""An event loop without clock or sockets: time jumps to the next timer, a seed decides who runs next."""

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")
_PROCESS: ContextVar["Process | None"] = ContextVar("process", default=None)


class Killed(BaseException):
    """What code of a dead process gets from the outside world: it may unwind, but reaches nothing."""


class _Task(asyncio.Task[Any]):
    """A task that hashes by its number: what iterates over a set of tasks does so in a repeatable order."""

    _numbers = count()

    def __init__(self, work: Any, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        # First, as the task is put into a set while it is made.
        self._number = next(_Task._numbers)
        super().__init__(work, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Call(asyncio.TimerHandle):
    """A callback that is to run, and no more: a seed makes thousands of them."""

    __slots__ = ()

    def __init__(
        self, when: float, callback: Callable[..., object], arguments: Any, loop: Any, context: Context | None
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = arguments
        self._loop = loop
        self._context = copy_context() if context is None else context
        self._cancelled = False
        self._repr = self._source_traceback = None

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = _nothing, ()


def _nothing() -> None:
    """What is left of a callback that was cancelled."""


class Stuck(Exception):  # noqa: N818 - a finding, not an error of the loop
    """Nothing is ready and no timer is set, yet the simulation has not ended."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs one callback at a time, chosen by the seed among those that are ready.

    Processes can be paused: their callbacks gather, timers included, until they are resumed.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._now = 0.0
        self._timers: list[tuple[float, int, _Call]] = []
        self._numbers = count()
        self.steps = 0
        self.set_task_factory(_task_of_its_process)

    def time(self) -> float:
        return self._now

    def later(self, seconds: float, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.TimerHandle:
        """Call back outside of every process, so that no pause delays it."""
        return self.call_at(self._now + seconds, callback, *args, context=_NOBODY)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Call(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Call(self._now, callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def _run_once(self) -> None:
        """Run one callback: where none is ready, that of the next timer."""
        timers, ready = self._timers, self._ready  # type: ignore[attr-defined]
        while True:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if not ready:
                if not timers:
                    raise Stuck("nothing is ready, and no timer is set")
                self._now = max(self._now, timers[0][0])
            while timers and timers[0][0] <= self._now:
                ready.append(heapq.heappop(timers)[2])
            while ready:
                handle = self._pick(ready)
                if handle._cancelled:
                    continue
                process = handle._context.get(_PROCESS)
                if process is not None and process.paused:
                    process.gathered.append(handle)
                    continue
                self.steps += 1
                handle._run()
                return

    def _pick(self, ready: Any) -> Any:
        if len(ready) > 1:
            ready.rotate(-self._random.randrange(len(ready)))
        return ready.popleft()

    # What a loop with sockets does here.

    def _process_events(self, event_list: object) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        """Nothing sleeps, so nothing needs waking."""


class Process:
    """Tasks that live, pause and die together, like those of one worker.

    Attributes:
        stops: when it was paused.
    """

    def __init__(self, loop: SimulatedLoop, name: str) -> None:
        self._loop = loop
        self.name = name
        self.alive = True
        self.paused = False
        self.stops: list[float] = []
        self.gathered: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start the process's first task."""
        context = copy_context()
        context.run(_PROCESS.set, self)
        return self._loop.create_task(work, context=context, name=self.name)

    def pause(self) -> None:
        """Stop all of it where it stands."""
        self.paused = True
        self.stops.append(self._loop.time())

    def resume(self) -> None:
        """Go on: everything that was to happen meanwhile happens now, in any order."""
        self.paused = False
        self._loop._ready.extend(self.gathered)  # type: ignore[attr-defined]
        self.gathered.clear()

    def kill(self) -> None:
        """End it: its code unwinds, cut off from the world."""
        self.alive = False
        self.resume()
        for task in self.tasks:
            task.cancel()


def _task_of_its_process(
    loop: asyncio.AbstractEventLoop, work: Any, *, context: Context | None = None, **options: Any
) -> _Task:
    context = context or copy_context()
    task = _Task(work, loop=loop, context=context, **options)
    process = context.get(_PROCESS)
    if process is not None:
        process.tasks.append(task)
        if not process.alive:
            task.cancel()
    return task


def current_process() -> Process | None:
    """The process that runs, if one does."""
    return _PROCESS.get()


_NOBODY = Context()
