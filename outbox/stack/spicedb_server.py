"""The embedded SpiceDB as a gRPC server: `python -m outbox.stack.spicedb_server FOLDER PORT`.

Unary calls go to the engine's library, streaming ones are passed on to its socket, and what it accepts is
journaled in FOLDER. The bearer token is asked for as a SpiceDB server does, with the same codes and texts.
What could not be journaled (bulk imports), and what the library doesn't offer, is UNIMPLEMENTED.
"""

import asyncio
import hmac
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio

from outbox.stack.engine import UNARY, Engine, EngineError
from outbox.stack.journal import Journal
from outbox.stack.ledger import WRITES, Ledger

_STREAMING = frozenset(
    {
        "/authzed.api.v1.PermissionsService/ReadRelationships",
        "/authzed.api.v1.PermissionsService/LookupResources",
        "/authzed.api.v1.PermissionsService/LookupSubjects",
        "/authzed.api.v1.WatchService/Watch",
    }
)
_READERS = 8
_GRACE_SECONDS = 1.0
_DETAILS = "grpc-status-details-bin"

_logger = logging.getLogger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext
Write: TypeAlias = Callable[[str, bytes], bytes]
"""Makes one writing call, by its full gRPC name, and keeps what it did."""


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Routes every call by its full name."""

    def __init__(self, engine: Engine, write: Write, upstream: grpc.aio.Channel, writers: int) -> None:
        self._engine = engine
        self._accept = write
        self._upstream = upstream
        self.writers = ThreadPoolExecutor(writers, "writer")
        self._readers = ThreadPoolExecutor(_READERS, "reader")

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler of one call; none is UNIMPLEMENTED."""
        if details.method in UNARY:
            return grpc.unary_unary_rpc_method_handler(self._unary(details.method))
        if details.method in _STREAMING:
            return grpc.unary_stream_rpc_method_handler(self._streaming(details.method))
        return None

    def _unary(self, method: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def handle(request: bytes, context: Context) -> bytes:
            loop = asyncio.get_running_loop()
            try:
                if method in WRITES:
                    return await loop.run_in_executor(self.writers, self._write, method, request)
                return await loop.run_in_executor(self._readers, self._engine.call, method, request)
            except EngineError as error:
                details = error.details()
                await context.abort(error.code, error.text, ((_DETAILS, details),) if details else ())
                raise

        return handle

    def _write(self, method: str, request: bytes) -> bytes:
        try:
            return self._accept(method, request)
        except EngineError:
            raise
        except BaseException:
            # The engine may hold what the journal doesn't. Ending here makes the journal the truth again, and
            # leaves the caller with a broken connection: the write is unknown to it, as it should be.
            _logger.exception("a write can't be journaled")
            os._exit(1)

    def _streaming(self, method: str) -> Callable[[bytes, Context], AsyncIterator[bytes]]:
        async def handle(request: bytes, context: Context) -> AsyncIterator[bytes]:
            # No deadline is passed on: the caller's cancels this handler, and the handler cancels the call.
            call: Any = self._upstream.unary_stream(method)(request)
            try:
                async for response in call:
                    yield response
            except grpc.aio.AioRpcError as error:
                await context.abort(
                    error.code(), error.details() or "", tuple(error.trailing_metadata() or ())
                )
            finally:
                call.cancel()

        return handle


class _Token(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Asks each call for the token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Go on with the right token; else answer as SpiceDB does."""
        refusal = self._refusal(details)
        if refusal is None:
            return await continuation(details)
        return _refuse(*refusal)

    def _refusal(self, details: grpc.HandlerCallDetails) -> tuple[grpc.StatusCode, str] | None:
        unauthenticated = grpc.StatusCode.UNAUTHENTICATED
        prefix = "invalid preshared key: "
        values = [value for key, value in details.invocation_metadata or () if key == "authorization"]
        scheme, separator, token = str(values[0]).partition(" ") if values else ("", " ", "")
        if not separator:
            return (
                unauthenticated,
                f"{prefix}rpc error: code = Unauthenticated desc = Bad authorization string",
            )
        if scheme.lower() != "bearer":
            return (
                unauthenticated,
                f"{prefix}rpc error: code = Unauthenticated desc = Request unauthenticated with bearer",
            )
        if not token:
            return unauthenticated, "missing preshared key"
        if not hmac.compare_digest(token.encode(), self._token):
            return grpc.StatusCode.PERMISSION_DENIED, f"{prefix}invalid token"
        return None


def _refuse(code: grpc.StatusCode, text: str) -> grpc.RpcMethodHandler:
    async def handle(_: AsyncIterator[bytes], context: Context) -> None:
        await context.abort(code, text)

    # A stream takes every kind of call: on the wire they are the same.
    return grpc.stream_stream_rpc_method_handler(handle)


async def serve(engine: Engine, write: Write, port: int, token: str, *, writers: int = 1) -> None:
    """Serve until SIGTERM or SIGINT, with so many writes at a time: one, where they are journaled."""
    async with grpc.aio.insecure_channel(
        engine.streaming_target, options=[("grpc.max_receive_message_length", -1)]
    ) as upstream:
        handlers = _Handlers(engine, write, upstream, writers)
        # Without this a second server could share the port and take half of the calls.
        server = grpc.aio.server(interceptors=[_Token(token)], options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((handlers,))
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await stopped.wait()
        await server.stop(_GRACE_SECONDS)
    handlers.writers.shutdown()


def main() -> None:
    """Read the arguments and serve."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    os.umask(0o077)
    journal = Journal(folder / "journal")
    engine = Engine()
    ledger = Ledger(engine, journal)
    asyncio.run(serve(engine, ledger.write, port, os.environ["OUTBOX_SPICEDB_TOKEN"]))
    ledger.compact()
    journal.close()
    engine.close()


if __name__ == "__main__":
    main()
