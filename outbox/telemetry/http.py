"""The HTTP endpoint of a process: /healthz, /readyz, /metrics. It answers from a thread of its own."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from outbox.pulse import HUNG_SECONDS, Pulse
from outbox.telemetry.aside import Aside

_STOP_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Process:
    """What is asked of the process.

    Attributes:
        pulses: of each of its loops.
        problem: finds out what keeps it from working, if anything does; called on the endpoint's event loop.
        stores_down: names the stores that can't be used; called in a thread.
        metrics: the page for an Accept header, and its content type; called in a thread.
    """

    pulses: Mapping[str, Pulse]
    problem: Callable[[], Awaitable[str | None]]
    stores_down: Callable[[], list[str]]
    metrics: Callable[[str], tuple[bytes, str]]


def health(process: Process) -> Response:
    """Whether its loops turn."""
    ages = {name: pulse.age() for name, pulse in process.pulses.items()}
    hung = sorted(name for name, age in ages.items() if age >= HUNG_SECONDS)
    return JSONResponse({"hung": hung}, 503 if hung else 200)


async def readiness(process: Process) -> Response:
    """Whether it can work, or what is in the way."""
    problem = await process.problem()
    # Told, and no reason not to be ready: the steps of the others go on.
    down = [] if problem else await asyncio.to_thread(process.stores_down)
    return JSONResponse({"problem": problem, "stores_down": down}, 503 if problem else 200)


async def exposition(process: Process, request: Request) -> Response:
    """What it measures, in the form that is asked for."""
    page, content_type = await asyncio.to_thread(process.metrics, request.headers.get("accept", ""))
    return Response(page, headers={"content-type": content_type})


def app(process: Process) -> Starlette:
    """The endpoint as an ASGI application."""

    async def healthz(_: Request) -> Response:
        return health(process)

    async def readyz(_: Request) -> Response:
        return await readiness(process)

    async def metrics(request: Request) -> Response:
        return await exposition(process, request)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    )


def listen(host: str, port: int, settings: str = "OUTBOX_HTTP") -> socket.socket:
    """Take the port, in the open: uvicorn would end the process where it can't.

    Args:
        host: an address of this machine.
        port: of that address; 0: any that is free.
        settings: how the names of the two settings begin.

    Raises:
        ValueError: it can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"{settings}_HOST {host}, {settings}_PORT {port} can't be listened on: {error}"
        ) from error


@asynccontextmanager
async def serving(process: Process, aside: Aside, taken: socket.socket) -> AsyncIterator[None]:
    """Inside, the endpoint answers."""
    server = uvicorn.Server(
        uvicorn.Config(
            app(process),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
    )
    ended = aside.start(server.serve(sockets=[taken]))
    try:
        yield
    finally:
        server.should_exit = True
        # Whoever reads slowly is not waited for longer than that.
        await asyncio.wait([asyncio.wrap_future(ended)], timeout=2 * _STOP_SECONDS)
        taken.close()
