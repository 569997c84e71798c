"""A small pooler of transactions, for where PgBouncer can't be had.

It goes through its sessions in turn, so that a client's next transaction runs on another than its last.
"""

import asyncio
import contextlib
import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from psycopg import pq
from psycopg.conninfo import make_conninfo

from outbox.store.url import parameters

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_ASK_TO_SYNC = {b"Q", b"S", b"F"}
_TOLD = ("server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone", "integer_datetimes")


@dataclass
class _Session:
    """A connection to Postgres that libpq has made; only its socket is used."""

    made: pq.abc.PGconn
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass
class _Pool:
    """The sessions of one database."""

    told: dict[str, bytes]
    free: asyncio.Queue[_Session] = field(default_factory=asyncio.Queue)


class _Client:
    """One client's messages, each transaction on the session whose turn it is."""

    def __init__(self, pool: _Pool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._pool = pool
        self._reader = reader
        self._writer = writer
        self._session: _Session | None = None
        self._unanswered = 0
        self._answering: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Greet it, and carry messages until it goes."""
        for name, value in self._pool.told.items():
            self._writer.write(_message(b"S", name.encode() + b"\0" + value + b"\0"))
        made_up = struct.pack("!II", random.getrandbits(31), random.getrandbits(31))
        self._writer.write(_message(b"K", made_up) + _message(b"Z", b"I"))
        try:
            while (message := await _read(self._reader))[0] != b"X":
                await self._pass_on(*message)
        finally:
            if self._session is not None:
                await self._pass_on(b"Q", b"ROLLBACK\0")
            if self._answering is not None:
                await self._answering

    async def _pass_on(self, kind: bytes, body: bytes) -> None:
        if self._session is None:
            self._session = await self._pool.free.get()
            self._answering = asyncio.create_task(self._answer(self._session))
        self._unanswered += kind in _ASK_TO_SYNC
        self._session.writer.write(_message(kind, body))

    async def _answer(self, session: _Session) -> None:
        while True:
            kind, body = await _read(session.reader)
            self._writer.write(_message(kind, body))
            self._unanswered -= kind == b"Z"
            if kind == b"Z" and body == b"I" and not self._unanswered:
                self._session = None
                self._pool.free.put_nowait(session)
                return


class _Pooler:
    def __init__(self, server: dict[str, str], sessions: int) -> None:
        self._server = server
        self._sessions = sessions
        self._pools: dict[str, _Pool] = {}
        self._opened: list[_Session] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            if (wanted := await _begin(reader, writer)) is not None:
                writer.write(_message(b"R", struct.pack("!I", 0)))
                await _Client(await self._pool(wanted), reader, writer).serve()

    async def _pool(self, database: str) -> _Pool:
        if database not in self._pools:
            made = [
                pq.PGconn.connect(make_conninfo("", **self._server | {"dbname": database}).encode())
                for _ in range(self._sessions)
            ]
            told = {name: made[0].parameter_status(name.encode()) or b"" for name in _TOLD}
            self._pools[database] = pool = _Pool(told)
            for one in made:
                streams = await asyncio.open_connection(sock=socket.socket(fileno=os.dup(one.socket)))
                self._opened.append(_Session(one, *streams))
                pool.free.put_nowait(self._opened[-1])
        return self._pools[database]

    async def end(self, server: asyncio.Server) -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for session in self._opened:
            session.writer.close()
            session.made.finish()


@contextmanager
def pooled(database: str, *, sessions: int) -> Iterator[str]:
    """The URL of the same database through the pooler."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    pooler = _Pooler(parameters(database), sessions)
    serving = asyncio.run_coroutine_threadsafe(asyncio.start_server(pooler.accept, "127.0.0.1", 0), loop)
    port = serving.result().sockets[0].getsockname()[1]
    try:
        yield urlsplit(database)._replace(netloc=f"anybody@127.0.0.1:{port}").geturl()
    finally:
        asyncio.run_coroutine_threadsafe(pooler.end(serving.result()), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
    """Read a client's first message; which database it wants, or None if it wants something else."""
    while True:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        body = await reader.readexactly(length - 4)
        (code,) = struct.unpack("!I", body[:4])
        if code == _CANCEL:
            return None
        if code not in {_SSL, _GSS}:
            words = body[4:].rstrip(b"\0").decode().split("\0")
            wanted = dict(zip(words[::2], words[1::2], strict=True))
            return wanted.get("database", wanted["user"])
        writer.write(b"N")


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    return kind, await reader.readexactly(length - 4)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body
