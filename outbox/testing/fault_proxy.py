"""A gRPC proxy that fails on purpose, between a client and the real SpiceDB or Temporal server.

A store's client meets here what production brings: refused connections, lost replies, answers that come
too late. The proxy knows no message: bytes, metadata, deadlines, statuses and trailers pass as they are.
It takes calls with one request, unary and server-streaming. Clients may have to speak TLS with it; on to the
server it speaks plaintext.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self, Unpack, assert_never

import grpc
import grpc.aio

from outbox.testing.faults import (
    Answer,
    ApplyLate,
    Armed,
    Call,
    Cut,
    Delay,
    Fault,
    Gate,
    Hold,
    Instead,
    Late,
    LoseReply,
    Rewrite,
    Which,
)
from outbox.testing.relay import HOST, Direction, Relay
from outbox.testing.upstream import ANY_SIZE, AnyMethod, Upstream, passable

_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
_DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED


class FaultProxy:
    """Sits before a gRPC server at `target` ("host:port") and hands the armed faults to the calls they name.

    Use it as an async context manager, and point clients, in this process or another, at `address`.
    A fault names its method in short ("CreateSchedule") or in full; of those that match a call,
    the one armed first has it.

    With `tls` it is a server that speaks TLS: a context with the certificate, ALPN "h2", and what it asks of
    clients. What is changed in the context later holds for new connections.
    """

    def __init__(self, target: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self._tls = tls
        self._armed: list[Armed] = []
        self._calls: list[Call] = []
        self._arrival = asyncio.Event()
        self._resources = AsyncExitStack()
        self._relay: Relay
        self._upstream: Upstream

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            self._upstream = await resources.enter_async_context(Upstream(self.target))
            server = grpc.aio.server(options=ANY_SIZE)
            server.add_generic_rpc_handlers((AnyMethod(self._handle),))
            port = server.add_insecure_port(f"{HOST}:0")
            await server.start()
            resources.push_async_callback(server.stop, None)
            self._relay = await resources.enter_async_context(Relay(port, self._tls))
            self._resources = resources.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    @property
    def address(self) -> str:
        """Where clients connect, "127.0.0.1:port"."""
        return f"{HOST}:{self._relay.port}"

    # Faults of a call.

    def fail(
        self,
        method: str,
        *,
        status: grpc.StatusCode = _UNAVAILABLE,
        details: str = "",
        **which: Unpack[Which],
    ) -> Armed:
        """Answer with a status; the server never sees the call."""
        return self._arm(method, Instead(Answer(status=status, details=details)), which)

    def answer(self, method: str, answer: Answer, **which: Unpack[Which]) -> Armed:
        """Answer with these messages, status and trailers; the server never sees the call."""
        return self._arm(method, Instead(answer), which)

    def swallow(self, method: str, **which: Unpack[Which]) -> Armed:
        """Never answer, and the server never sees the call: the client runs into its own deadline."""
        return self._arm(method, Instead(None), which)

    def lose_reply(
        self,
        method: str,
        *,
        status: grpc.StatusCode | None = _UNAVAILABLE,
        details: str = "Socket closed",
        **which: Unpack[Which],
    ) -> Armed:
        """Let the call take effect and answer with a status, or never (status None)."""
        return self._arm(method, LoseReply(_maybe(status, details)), which)

    def delay(
        self, method: str, seconds: float, *, after_effect: bool = False, **which: Unpack[Which]
    ) -> Armed:
        """Wait before the effect, or between the effect and the reply."""
        return self._arm(method, Delay(seconds, after_effect), which)

    def cut(
        self, method: str, *, after_effect: bool = False, reset: bool = False, **which: Unpack[Which]
    ) -> Armed:
        """Close the client's connection (FIN, or RST), as a dying server does: every call on it is lost."""
        return self._arm(method, Cut(after_effect, reset), which)

    def apply_late(
        self,
        method: str,
        *,
        status: grpc.StatusCode | None = _DEADLINE_EXCEEDED,
        details: str = "Deadline Exceeded",
        **which: Unpack[Which],
    ) -> Late:
        """Answer with a status now, or never (status None); forward the request when `release` is awaited."""
        late = Late(self._upstream.effect)
        self._arm(method, ApplyLate(_maybe(status, details), late), which)
        return late

    def gate(self, method: str, *, after_effect: bool = False, **which: Unpack[Which]) -> Gate:
        """Hold a call before its effect, or between its effect and its reply, until the gate is opened."""
        gate = Gate()
        self._arm(method, Hold(gate, after_effect), which)
        return gate

    def rewrite(self, method: str, change: Callable[[bytes], bytes], **which: Unpack[Which]) -> Armed:
        """Hand the server another request than the client sent, and the client the answer to that."""
        return self._arm(method, Rewrite(change), which)

    def clear(self) -> None:
        """Disarm every fault; calls that one has already met keep it."""
        self._armed.clear()

    # Faults of the whole server.

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Inside, the server is gone: connections are cut, and new ones refused."""
        async with self._relay.refusing():
            yield

    @asynccontextmanager
    async def black_hole(self) -> AsyncIterator[None]:
        """Inside, connections open and nothing ever answers; what is sent meanwhile never arrives."""
        async with self._relay.silent():
            yield

    @asynccontextmanager
    async def one_way(self, held: Direction) -> AsyncIterator[None]:
        """Inside, connections stay open, and what is sent in one direction is held; at the end it arrives."""
        async with self._relay.one_way(held):
            yield

    def cut_connections(self, *, reset: bool = False) -> None:
        """Close every client's connection now, as a server that restarts."""
        self._relay.cut_all(reset=reset)

    # History.

    def calls(self, method: str | None = None) -> list[Call]:
        """The calls so far, in the order of their arrival; only those of `method`, when given."""
        return [call for call in self._calls if method is None or call.named(method)]

    async def wait_for_call(self, method: str, count: int = 1) -> Call:
        """The `count`-th call of a method, as soon as it has arrived."""
        while len(calls := self.calls(method)) < count:
            await self._arrival.wait()
        return calls[count - 1]

    # One call, from its arrival to its end.

    def _arm(self, method: str, fault: Fault, which: Which) -> Armed:
        armed = Armed(method, fault, **which)
        self._armed.append(armed)
        return armed

    async def _handle(self, method: str, request: bytes, context: Any) -> None:
        call = Call(method, request, passable(context.invocation_metadata()))
        met = next((armed for armed in self._armed if armed.meets(call)), None)
        call.fault = None if met is None else met.fault
        self._calls.append(call)
        self._arrival.set()
        self._arrival = asyncio.Event()
        try:
            await self._meet(call, call.fault, context)
        finally:
            call.ended.set()

    async def _meet(self, call: Call, fault: Fault | None, context: Any) -> None:
        match fault:
            case None:
                await self._pass(call, context)
            case Instead(answer):
                await _reply(call, context, answer)
            case Rewrite(change):
                call.request = change(call.request)
                await self._pass(call, context)
            case LoseReply(answer):
                await self._upstream.effect(call)
                await _reply(call, context, answer)
            case ApplyLate(answer, late):
                late.hold(call)
                await _reply(call, context, answer)
            case Delay(after_effect=False) | Hold(after_effect=False):
                await _stand(fault)
                await self._pass(call, context)
            case Delay() | Hold():
                answer = await self._upstream.effect(call)
                await _stand(fault)
                await _reply(call, context, answer)
            case Cut(after_effect, reset):
                if after_effect:
                    await self._upstream.effect(call)
                self._relay.cut(int(context.peer().rpartition(":")[2]), reset=reset)
                await _until_cancelled()
            case _:
                assert_never(fault)

    async def _pass(self, call: Call, context: Any) -> None:
        _end(call, context, await self._upstream.forward(call, context))


async def _reply(call: Call, context: Any, answer: Answer | None) -> None:
    if answer is None:
        await _until_cancelled()
        return
    if answer.initial_metadata:
        await context.send_initial_metadata(answer.initial_metadata)
    for message in answer.messages:
        await context.write(message)
    _end(call, context, answer)


def _end(call: Call, context: Any, answer: Answer) -> None:
    context.set_trailing_metadata(answer.trailing_metadata)
    context.set_code(answer.status)
    context.set_details(answer.details)
    call.client = answer.status


async def _stand(fault: Delay | Hold) -> None:
    match fault:
        case Delay(seconds):
            await asyncio.sleep(seconds)
        case Hold(gate):
            await gate.passed()
        case _:
            assert_never(fault)


async def _until_cancelled() -> None:
    """End with the client: gRPC cancels the handler of a call that timed out or lost its connection."""
    await asyncio.get_running_loop().create_future()


def _maybe(status: grpc.StatusCode | None, details: str) -> Answer | None:
    return None if status is None else Answer(status=status, details=details)
