"""The embedded stack for tests: each server starts when it is first asked where it is.

So a test of the store costs Postgres alone, one of SpiceDB's effects SpiceDB, and one of neither nothing.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Self

from outbox.stack import Stack, StackInfo
from outbox.stack.guard import Guard
from outbox.stack.kafka import Broker
from outbox.stack.postgres import database_url
from outbox.stack.stack import COMPONENTS, Name
from outbox.stack.state import State


class _OneByOne(Stack):
    """A stack that is brought up server by server."""

    def bring_up(self, name: Name, broker: Broker | None) -> State:
        """Bring up one, on ports that are free, and say on which ports the stack is."""
        with self._locked():
            state = State.load(self.home)
            state.broker = broker or state.broker
            self._bring_up([COMPONENTS[name]], self._running(), state)
            return state


class LazyStack:
    """A stack of which nothing runs that nobody has asked for; as a context manager it is down after."""

    def __init__(self, home: Path) -> None:
        self._stack = _OneByOne(home)
        self._guard = Guard(self._stack.home)
        self.info = LazyInfo(self.start, lambda: self.whole)

    @cached_property
    def whole(self) -> Stack:
        """The stack with its three servers up; what isn't running yet starts side by side."""
        self._stack.up()
        return self._stack

    def start(self, name: Name, broker: Broker | None = None) -> State:
        """Start one server, and say on which ports the stack is."""
        return self._stack.bring_up(name, broker)

    def restart(self, name: Name) -> None:
        """Start one server again, with what has been changed of its files."""
        self._stack.stop(name)
        self._stack.start(name)

    def status(self) -> set[str]:
        """The names of the servers that run."""
        return {name for name, process in self._stack.status().items() if process is not None}

    def __enter__(self) -> Self:
        self._stack.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._guard.arm()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stack.down()
        finally:
            self._guard.disarm()


class LazyInfo(StackInfo):
    """Where the servers are: reading one's place starts it."""

    def __init__(self, start: Callable[[Name], State], start_all: Callable[[], object]) -> None:
        self.__dict__.update(_start=start, _start_all=start_all)

    @cached_property
    def database_url(self) -> str:
        """Starts Postgres."""
        return database_url(self._started("postgres"))

    @cached_property
    def spicedb_endpoint(self) -> str:
        """Starts SpiceDB."""
        return f"127.0.0.1:{self._started('spicedb').ports['spicedb']}"

    @cached_property
    def spicedb_token(self) -> str:
        """Starts SpiceDB."""
        return self._started("spicedb").token

    @cached_property
    def temporal_address(self) -> str:
        """Starts Temporal."""
        return f"127.0.0.1:{self._started('temporal').ports['temporal']}"

    def environment(self) -> dict[str, str]:
        """Start all three, side by side, rather than one after another."""
        self.__dict__["_start_all"]()
        return super().environment()

    def _started(self, name: Name) -> State:
        state: State = self.__dict__["_start"](name)
        return state

    def __repr__(self) -> str:
        """Without the fields: a failed test's report must start nothing."""
        return "LazyInfo()"
