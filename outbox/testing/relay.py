"""A TCP relay whose connections can be cut: the part of an outage that no gRPC handler can play."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

HOST = "127.0.0.1"
_CHUNK = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Direction = Literal["requests", "replies"]
"""What clients send, and what is sent to them."""


@dataclass(eq=False)
class _Link:
    """One client's connection, and ours to the backend that serves it."""

    client: asyncio.StreamWriter
    task: asyncio.Task[None] = field(init=False)
    backend: asyncio.StreamWriter | None = field(default=None, init=False)

    def cut(self, *, reset: bool) -> None:
        # A connection that is closing already has no socket left to set.
        if reset and not self.client.is_closing():
            sock = self.client.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.client.transport.abort()
        if self.backend is not None:
            self.backend.transport.abort()
        self.task.cancel()


class Relay:
    """Relays one local port to a backend port, until told to cut, to refuse, to hold back or to fall silent.

    A refused connection is a real ECONNREFUSED, and a cut one a real FIN or RST: clients word these
    differently from a status that a server sends, and error tables depend on the difference.

    Args:
        backend_port: where what arrives goes on to, in the clear.
        tls: ends TLS here; without, clients speak in the clear, too.
    """

    def __init__(self, backend_port: int, tls: ssl.SSLContext | None = None) -> None:
        self._backend_port = backend_port
        self._tls = tls
        self._links: set[_Link] = set()
        self._flowing = {direction: asyncio.Event() for direction in get_args(Direction)}
        for direction in self._flowing.values():
            direction.set()
        # Bound but never listening, it keeps the port ours while the listener is away.
        self._reservation = _bound_socket(0)
        self.port: int = self._reservation.getsockname()[1]
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_listening()
        await self._end_all()
        self._reservation.close()

    def cut(self, backend_peer_port: int, *, reset: bool = False) -> None:
        """Close the connection that the backend sees as coming from this port."""
        for link in self._links:
            if link.backend and link.backend.get_extra_info("sockname")[1] == backend_peer_port:
                link.cut(reset=reset)

    def cut_all(self, *, reset: bool = False) -> None:
        """Close every connection: FIN, as when a server's process ends, or RST."""
        for link in self._links:
            link.cut(reset=reset)

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Inside, nothing listens: open connections are cut and new ones are refused."""
        await self._stop_listening()
        await self._end_all()
        try:
            yield
        finally:
            await self._listen()

    @asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        """Inside, connections are accepted and stay open, and not a byte passes either way.

        At the end they are cut, so that nothing that was sent meanwhile arrives after all.
        """
        for direction in self._flowing.values():
            direction.clear()
        try:
            yield
        finally:
            await self._end_all()
            for direction in self._flowing.values():
                direction.set()

    @asynccontextmanager
    async def one_way(self, held: Direction) -> AsyncIterator[None]:
        """Inside, connections stay open, and not a byte passes in that direction; the other one works.

        At the end what was held arrives, as TCP sends again what was not acknowledged: also what its sender
        has given up on, and the end of a connection that was closed meanwhile. New connections are accepted,
        as this host does it.
        """
        self._flowing[held].clear()
        try:
            yield
        finally:
            self._flowing[held].set()

    async def _end_all(self) -> None:
        tasks = [link.task for link in self._links]
        self.cut_all()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._accept, sock=_bound_socket(self.port), ssl=self._tls
        )

    async def _stop_listening(self) -> None:
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        for sock in listener.sockets:
            asyncio.get_running_loop().remove_reader(sock.fileno())
        # What is being accepted needs its server for one moment more, or nobody closes it (CPython 109564).
        await asyncio.sleep(0)
        listener.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._listener is None:
            # It was on its way when an outage began.
            writer.transport.abort()
            return
        link = _Link(writer)
        link.task = asyncio.create_task(self._serve(reader, link))
        link.task.add_done_callback(lambda _: self._links.discard(link))
        self._links.add(link)

    async def _serve(self, client: asyncio.StreamReader, link: _Link) -> None:
        try:
            with suppress(OSError):
                backend, link.backend = await asyncio.open_connection(HOST, self._backend_port)
                await _first_to_end(
                    self._pump(client, link.backend, self._flowing["requests"]),
                    self._pump(backend, link.client, self._flowing["replies"]),
                )
        finally:
            link.client.close()
            if link.backend is not None:
                link.backend.close()

    @staticmethod
    async def _pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await flowing.wait()
                writer.write(chunk)
                await writer.drain()
            # The end of a connection travels with the bytes.
            await flowing.wait()


async def _first_to_end(*pumps: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.create_task(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _bound_socket(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((HOST, port))
    return sock
