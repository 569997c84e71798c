"""The proxy's faults, before a plain server that records what takes effect."""

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from outbox.testing import Answer, FaultProxy

WRITE = "/shop.v1.Shop/Write"
STREAM = "/shop.v1.Shop/Stream"
REFUSE = "/shop.v1.Shop/Refuse"
Code = grpc.StatusCode
SECONDS = 10


class Shop:
    """Remembers each effect; echoes, streams, or refuses with all that a status can carry."""

    def __init__(self) -> None:
        self.effects: list[bytes] = []
        self.metadata: dict[str, str | bytes] = {}
        self.time_remaining: float | None = None

    def service(self, details: Any) -> Any:
        if details.method == STREAM:
            return grpc.unary_stream_rpc_method_handler(self.stream)
        return grpc.unary_unary_rpc_method_handler(self.refuse if details.method == REFUSE else self.write)

    async def write(self, request: bytes, context: Any) -> bytes:
        self.effects.append(request)
        self.metadata = dict(context.invocation_metadata())
        self.time_remaining = context.time_remaining()
        await context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", "2"),))
        return b"ok:" + request

    async def stream(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for part in request.split():
            yield part

    async def refuse(self, _request: bytes, context: Any) -> bytes:
        await context.abort(
            Code.FAILED_PRECONDITION, "no: ünicode", (("grpc-status-details-bin", b"\x00\x01"),)
        )
        return b""


@pytest.fixture
async def shop() -> AsyncIterator[tuple[Shop, str]]:
    shop = Shop()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((shop,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield shop, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
def effects(shop: tuple[Shop, str]) -> list[bytes]:
    return shop[0].effects


@pytest.fixture
async def proxy(shop: tuple[Shop, str]) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(shop[1]) as proxy:
        yield proxy


@pytest.fixture
async def channel(proxy: FaultProxy) -> AsyncIterator[Any]:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50)]
    async with grpc.aio.insecure_channel(
        proxy.address, options=[*options, ("grpc.max_receive_message_length", -1)]
    ) as channel:
        yield channel


async def write(channel: Any, request: bytes = b"a", **options: Any) -> bytes:
    answer: bytes = await channel.unary_unary(WRITE)(
        request, timeout=options.pop("timeout", SECONDS), **options
    )
    return answer


async def failed_write(channel: Any, **options: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await write(channel, **options)
    return caught.value


async def unanswered(
    proxy: FaultProxy, channel: Any, method: str = WRITE, *, after_effect: bool = False
) -> None:
    """Make a call that meets a fault and gets no answer; then its client gives up, as at a deadline.

    No deadline of its own ends it: on a busy machine that might come before the call has got to its fault.
    """
    call = channel.unary_unary(method)(b"a")
    seen = await proxy.wait_for_call(method)
    if after_effect:
        await seen.answered.wait()
    await asyncio.sleep(0.2)
    assert not call.done()
    call.cancel()
    await seen.ended.wait()


async def lost(channel: Any) -> None:
    """The client knows that its connection has gone."""
    while (state := channel.get_state()) is grpc.ChannelConnectivity.READY:
        await channel.wait_for_state_change(state)


async def test_passes_messages_metadata_and_deadline(
    channel: Any, proxy: FaultProxy, shop: tuple[Shop, str]
) -> None:
    big = b"a" * 6_000_000
    call = channel.unary_unary(WRITE)(
        big,
        timeout=SECONDS,
        metadata=(("authorization", "Bearer t"), ("x-account-id", "a"), ("k-bin", b"\xff")),
    )
    assert await call == b"ok:" + big
    assert dict(await call.initial_metadata())["x-first"] == "1"
    assert dict(await call.trailing_metadata())["x-last"] == "2"
    seen = shop[0].metadata
    assert (seen["authorization"], seen["x-account-id"], seen["k-bin"]) == ("Bearer t", "a", b"\xff")
    assert shop[0].time_remaining is not None
    assert 0 < shop[0].time_remaining <= SECONDS
    [seen_call] = proxy.calls(WRITE)
    assert (seen_call.client, seen_call.forwarded, seen_call.fault) == (Code.OK, True, None)
    assert proxy.calls("Write") == proxy.calls() == [seen_call]
    assert proxy.calls("Rite") == []


async def test_gives_no_deadline_to_a_call_without_one(channel: Any, shop: tuple[Shop, str]) -> None:
    await write(channel, timeout=None)
    assert shop[0].time_remaining is None


async def test_passes_streams_and_refusals(channel: Any) -> None:
    assert [m async for m in channel.unary_stream(STREAM)(b"a b c", timeout=SECONDS)] == [b"a", b"b", b"c"]
    assert [m async for m in channel.unary_stream(STREAM)(b"", timeout=SECONDS)] == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(REFUSE)(b"", timeout=SECONDS)
    assert (caught.value.code(), caught.value.details()) == (Code.FAILED_PRECONDITION, "no: ünicode")
    assert dict(caught.value.trailing_metadata())["grpc-status-details-bin"] == b"\x00\x01"


async def test_fails_before_the_effect(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    armed = proxy.fail("Write", status=Code.RESOURCE_EXHAUSTED, details="slow down", times=2)
    for _ in range(2):
        error = await failed_write(channel)
        assert (error.code(), error.details()) == (Code.RESOURCE_EXHAUSTED, "slow down")
    assert effects == []
    assert armed.calls == proxy.calls("Write")
    assert [(call.forwarded, call.client) for call in armed.calls] == [(False, Code.RESOURCE_EXHAUSTED)] * 2
    assert await write(channel) == b"ok:a"


async def test_picks_its_calls(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    proxy.fail(WRITE, when=lambda call: call.request == b"b", skip=1, times=None)
    await write(channel, b"b")
    await write(channel, b"a")
    for _ in range(3):
        await failed_write(channel, request=b"b")
    proxy.clear()
    await write(channel, b"b")
    assert effects == [b"b", b"a", b"b"]


async def test_disarms_one_fault_and_leaves_the_next(channel: Any, proxy: FaultProxy) -> None:
    first = proxy.fail("Write", details="first", times=None)
    proxy.fail("Write", details="second", times=None)
    assert (await failed_write(channel)).details() == "first"
    first.disarm()
    assert (await failed_write(channel)).details() == "second"


async def test_answers_for_the_server(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    proxy.answer("Write", Answer(messages=(b"made up",), initial_metadata=(("x-first", "0"),)))
    assert await write(channel) == b"made up"
    assert effects == []


async def test_loses_the_reply(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    armed = proxy.lose_reply("Write")
    error = await failed_write(channel)
    assert (error.code(), error.details()) == (Code.UNAVAILABLE, "Socket closed")
    [call] = armed.calls
    assert call.server == Answer(
        messages=(b"ok:a",), initial_metadata=(("x-first", "1"),), trailing_metadata=(("x-last", "2"),)
    )
    assert call.client is Code.UNAVAILABLE
    assert effects == [b"a"]


async def test_never_answers_after_the_effect(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    armed = proxy.lose_reply("Write", status=None)
    await unanswered(proxy, channel, after_effect=True)
    assert armed.calls[0].client is None
    assert effects == [b"a"]


async def test_swallows_a_call(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    proxy.swallow("Write")
    await unanswered(proxy, channel)
    assert effects == []


async def test_delays(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    proxy.delay("Write", 60)
    await unanswered(proxy, channel)
    assert effects == []
    proxy.delay("Write", 0.05, after_effect=True)
    proxy.delay("Write", 0.05, skip=1)
    assert list(await asyncio.gather(write(channel), write(channel))) == [b"ok:a"] * 2


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after_effect", [False, True])
async def test_cuts_the_connection(
    channel: Any, proxy: FaultProxy, effects: list[bytes], *, after_effect: bool, reset: bool
) -> None:
    proxy.cut("Write", after_effect=after_effect, reset=reset)
    assert (await failed_write(channel)).code() is Code.UNAVAILABLE
    assert effects == ([b"a"] if after_effect else [])
    assert proxy.calls()[0].client is None
    await lost(channel)
    assert await write(channel, wait_for_ready=True) == b"ok:a"


async def test_cuts_only_the_connection_of_the_call(channel: Any, proxy: FaultProxy) -> None:
    gate = proxy.gate("Write")
    async with grpc.aio.insecure_channel(proxy.address, [("grpc.use_local_subchannel_pool", 1)]) as other:
        held = asyncio.create_task(write(other))
        await gate.reached.wait()
        proxy.cut("Write")
        await failed_write(channel)
        gate.open()
        assert await held == b"ok:a"


async def test_applies_late(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    late = proxy.apply_late("Write")
    with pytest.raises(RuntimeError, match="No request has arrived"):
        await late.release()
    assert (await failed_write(channel, request=b"late")).code() is Code.DEADLINE_EXCEEDED
    await late.held.wait()
    await write(channel, b"next")
    assert effects == [b"next"]
    answer = await late.release()
    assert (answer.status, answer.messages) == (Code.OK, (b"ok:late",))
    await late.release()
    assert effects == [b"next", b"late", b"late"]


async def test_applies_late_once_its_client_has_gone(
    channel: Any, proxy: FaultProxy, effects: list[bytes]
) -> None:
    late = proxy.apply_late(REFUSE, status=None)
    await unanswered(proxy, channel, REFUSE)
    assert (await late.release()).status is Code.FAILED_PRECONDITION
    assert effects == []


@pytest.mark.parametrize("after_effect", [False, True])
async def test_holds_at_a_gate(
    channel: Any, proxy: FaultProxy, effects: list[bytes], *, after_effect: bool
) -> None:
    gate = proxy.gate("Write", after_effect=after_effect)
    pending = asyncio.create_task(write(channel))
    await gate.reached.wait()
    assert effects == ([b"a"] if after_effect else [])
    assert not pending.done()
    gate.open()
    assert await pending == b"ok:a"
    assert effects == [b"a"]


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_client_that_dies_at_a_gate(
    channel: Any, proxy: FaultProxy, effects: list[bytes], *, after_effect: bool
) -> None:
    gate = proxy.gate("Write", after_effect=after_effect)
    pending = asyncio.create_task(failed_write(channel))
    await gate.reached.wait()
    proxy.cut_connections()
    assert (await pending).code() is Code.UNAVAILABLE
    await proxy.calls()[0].ended.wait()
    gate.open()
    await lost(channel)
    await write(channel, b"next", wait_for_ready=True)
    assert effects == ([b"a", b"next"] if after_effect else [b"next"])


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_process_that_is_killed_at_a_gate(
    proxy: FaultProxy, effects: list[bytes], *, after_effect: bool
) -> None:
    gate = proxy.gate("Write", after_effect=after_effect)
    program = f"import grpc; grpc.insecure_channel({proxy.address!r}).unary_unary({WRITE!r})(b'a')"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    await gate.reached.wait()
    process.kill()
    await process.wait()
    await proxy.calls()[0].ended.wait()
    gate.open()
    assert effects == ([b"a"] if after_effect else [])


async def test_refuses_connections(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    await write(channel)
    async with proxy.outage():
        assert (await failed_write(channel)).code() is Code.UNAVAILABLE
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*proxy.address.split(":"))
    await lost(channel)
    assert await write(channel, wait_for_ready=True) == b"ok:a"
    assert effects == [b"a", b"a"]


@pytest.mark.parametrize("moments", range(4))
async def test_who_connects_as_it_begins_to_refuse_is_cut_off_and_nothing_is_left_open(
    proxy: FaultProxy, moments: int
) -> None:
    host, port = proxy.address.split(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as late:
        for _ in range(moments):
            await asyncio.sleep(0)
        async with proxy.outage():
            # What nobody closes is told when it is collected, and fails this test.
            gc.collect()
            with suppress(ConnectionResetError):
                assert await asyncio.to_thread(late.recv, 1) == b""


async def test_black_hole(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    await write(channel, b"before")
    async with proxy.black_hole():
        assert (await failed_write(channel, timeout=0.3)).code() is Code.DEADLINE_EXCEEDED
        reader, writer = await asyncio.open_connection(*proxy.address.split(":"))
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await lost(channel)
    assert await write(channel, b"after", wait_for_ready=True) == b"ok:after"
    assert effects == [b"before", b"after"]


async def test_one_way_for_requests(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    await write(channel, b"before")
    async with proxy.one_way("requests"):
        held = asyncio.create_task(write(channel, b"held"))
        assert (
            await failed_write(channel, request=b"given up", timeout=0.3)
        ).code() is Code.DEADLINE_EXCEEDED
        assert effects == [b"before"]
    assert await held == b"ok:held"
    assert await write(channel, b"after") == b"ok:after"
    assert b"held" in effects


async def test_one_way_for_replies(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    await write(channel, b"before")
    async with proxy.one_way("replies"):
        held = asyncio.create_task(write(channel, b"held"))
        call = await proxy.wait_for_call("Write", 2)
        await call.ended.wait()
        assert effects == [b"before", b"held"]
        assert not held.done()
    assert await held == b"ok:held"
    assert channel.get_state() is grpc.ChannelConnectivity.READY, "on the connection that was there"


async def test_rewrites_a_request(channel: Any, proxy: FaultProxy, effects: list[bytes]) -> None:
    armed = proxy.rewrite("Write", lambda request: request + b"!")
    assert await write(channel) == b"ok:a!"
    assert await write(channel) == b"ok:a"
    assert effects == [b"a!", b"a"]
    assert [call.request for call in armed.calls] == [b"a!"]


async def test_waits_for_a_call(channel: Any, proxy: FaultProxy) -> None:
    waiting = asyncio.create_task(proxy.wait_for_call("Write", 2))
    await write(channel, b"1")
    assert not waiting.done()
    await write(channel, b"2")
    assert (await waiting).request == b"2"


async def test_ends_with_a_call_still_out(shop: tuple[Shop, str]) -> None:
    async with FaultProxy(shop[1]) as proxy:
        gate = proxy.gate("Write", after_effect=True)
        channel = grpc.aio.insecure_channel(proxy.address)
        pending = asyncio.create_task(failed_write(channel))
        await gate.reached.wait()
    assert (await pending).code() is Code.UNAVAILABLE
    await channel.close()
