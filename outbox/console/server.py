"""Serves the console: opens what it reads, listens, and ends when it is told to."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from outbox.compose.audit import open_all
from outbox.console.access import Access
from outbox.console.actions import Actions
from outbox.console.app import make_app
from outbox.console.health import Health
from outbox.console.live import Watch
from outbox.console.reads import Reads, SharedReads
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.telemetry.http import listen
from outbox.telemetry.systemd import notifying
from outbox.telemetry.watched import watching

_END_SECONDS = 2


class Server(uvicorn.Server):
    """Leaves signals to the command that runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield

    def stop(self) -> None:
        """Answer what has begun, and end."""
        self.should_exit = True


class Listening:
    """A console that listens; ``url`` is its address."""

    def __init__(self, app: ASGIApp, watch: Watch, settings: Settings, line: socket.socket) -> None:
        tls = settings.console_tls_cert is not None
        self._line = line
        self._watch = watch
        self._server = Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_END_SECONDS,
                ssl_certfile=settings.console_tls_cert,
                ssl_keyfile=settings.console_tls_key,
            )
        )
        host, port = line.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{port}/"

    async def run(self) -> None:
        """Serve until ``stop``."""
        await self._server.serve(sockets=[self._line])

    def stop(self) -> None:
        """End soon."""
        self._watch.end()
        self._server.stop()


@asynccontextmanager
async def open_console(settings: Settings) -> AsyncIterator[tuple[ASGIApp, Watch]]:
    """The console as an application, over the outbox that the settings name; and what its pages watch.

    Raises:
        DBAPIError: Postgres can't be read.
    """
    url = settings.database_url.get_secret_value()
    async with (
        open_all(settings) as stores,
        open_engine(url, bounded=True) as engine,
        # What a person asks for may take its time: planning a replay of a hundred thousand does.
        open_engine(url) as patient,
        watching(url) as watched,
    ):
        reads = Reads(engine, stores)
        following = SharedReads(engine, stores)
        watch = Watch(reads.pulse, before_telling=following.forget)
        app = make_app(
            settings,
            reads=reads,
            following=following,
            actions=Actions(patient, stores),
            health=Health(settings),
            watch=watch,
            process=watched.process({}),
        )
        yield app, watch


@asynccontextmanager
async def listening(settings: Settings, host: str, port: int) -> AsyncIterator[Listening]:
    """The console, listening.

    Raises:
        ValueError: it may not listen there without knowing who comes, or can't.
    """
    Access(settings).require_guarded(host)
    with listen(host, port, "OUTBOX_CONSOLE") as line:
        # Its loop is the event loop, which feeds the watchdog itself.
        async with open_console(settings) as (app, watch), notifying({}):
            yield Listening(app, watch, settings, line)
