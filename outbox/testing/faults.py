"""What can go wrong with a call, as closed types, and the one place that decides which call it happens to."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias, TypedDict

import grpc

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What ends a call: a status, and the messages that came before it."""

    status: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    messages: tuple[bytes, ...] = ()
    initial_metadata: Metadata = ()
    trailing_metadata: Metadata = ()


@dataclass(eq=False)
class Call:
    """One call as the proxy saw it.

    Attributes:
        method: The full name, "/package.Service/Method".
        request: The serialized request, as the client sent it; once it was rewritten, as the server gets it.
        metadata: The client's metadata, without what belongs to the transport.
        fault: The fault that met this call.
        forwarded: Whether the request was handed to the server.
        server: What the server answered, as soon as it has.
        answered: Set when `server` is.
        client: The status handed to the client; None while it waits, and for ever when it got no answer
            (it timed out, went away, or its connection was cut).
        ended: Set when the client has its answer, or is known to be gone: nothing is forwarded from here on,
            save by `Late.release`.
    """

    method: str
    request: bytes
    metadata: Metadata
    fault: "Fault | None" = None
    forwarded: bool = False
    server: Answer | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    client: grpc.StatusCode | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def named(self, method: str) -> bool:
        """Whether `method`, short ("CreateSchedule") or in full, names this call."""
        return method in (self.method, self.method.rpartition("/")[2])


class Gate:
    """Holds a call at one point until the test lets it go.

    Attributes:
        reached: Set when a call stands at the gate.
    """

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Let the calls that stand here, and all later ones, go on."""
        self._opened.set()

    async def passed(self) -> None:
        """Stand at the gate until it is opened."""
        self.reached.set()
        await self._opened.wait()


class Late:
    """A request that the client has given up on, and that reaches the server only when the test says so.

    Attributes:
        held: Set when the request is here.
    """

    def __init__(self, forward: Callable[[Call], Awaitable[Answer]]) -> None:
        self.held = asyncio.Event()
        self._forward = forward
        self._call: Call | None = None

    def hold(self, call: Call) -> None:
        """Keep this call's request."""
        self._call = call
        self.held.set()

    async def release(self) -> Answer:
        """Hand the request to the server, and return what it says.

        Each further release delivers it once more.
        """
        if self._call is None:
            raise RuntimeError("No request has arrived yet: await late.held.wait() first.")
        return await self._forward(self._call)


@dataclass(frozen=True)
class Instead:
    """The server never sees the call. The client gets this answer, or none."""

    answer: Answer | None


@dataclass(frozen=True)
class LoseReply:
    """The call takes effect. The client gets this answer instead of the server's, or none."""

    answer: Answer | None


@dataclass(frozen=True)
class Delay:
    """The call waits, before its effect or before its reply."""

    seconds: float
    after_effect: bool


@dataclass(frozen=True)
class Cut:
    """The client's connection is closed, with all that it carries."""

    after_effect: bool
    reset: bool


@dataclass(frozen=True)
class ApplyLate:
    """The client gets this answer, or none; the server gets the request when the test releases it."""

    answer: Answer | None
    late: Late


@dataclass(frozen=True)
class Rewrite:
    """The server gets what this makes of the request, instead of the request."""

    change: Callable[[bytes], bytes]


@dataclass(frozen=True)
class Hold:
    """The call stands at a gate, before its effect or before its reply."""

    gate: Gate
    after_effect: bool


Fault: TypeAlias = Instead | LoseReply | Delay | Cut | ApplyLate | Hold | Rewrite


class Which(TypedDict, total=False):
    """Which of a method's calls a fault meets: by default the next one.

    Keys:
        when: Only calls for which this is true.
        skip: Let this many matching calls pass first.
        times: Meet this many calls; None: every one until disarmed.
    """

    when: Callable[[Call], bool]
    skip: int
    times: int | None


@dataclass(eq=False)
class Armed:
    """A fault that waits for its calls.

    Attributes:
        calls: The calls it has met.
    """

    method: str
    fault: Fault
    when: Callable[[Call], bool] | None = None
    skip: int = 0
    times: int | None = 1
    calls: list[Call] = field(default_factory=list, init=False)

    def disarm(self) -> None:
        """Meet no further call."""
        self.times = len(self.calls)

    def meets(self, call: Call) -> bool:
        """Whether this call is ours; counts it."""
        if not call.named(self.method) or (self.when is not None and not self.when(call)):
            return False
        if self.times is not None and len(self.calls) >= self.times:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.calls.append(call)
        return True
