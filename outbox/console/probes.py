"""/healthz, /readyz and /metrics, as every process of the outbox answers them."""

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from outbox.console.context import Console
from outbox.telemetry.http import exposition, health, readiness


def routes() -> list[BaseRoute]:
    """Their places."""
    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


async def healthz(request: Request) -> Response:
    """It answers."""
    return health(request.app.state.process)


async def readyz(request: Request) -> Response:
    """Whether it can work; what is in the way is told to visitors alone, as it may name other servers."""
    state = request.app.state
    answer = await readiness(state.process)
    if state.access.visitor(request) is None:
        return JSONResponse({"ready": answer.status_code == HTTPStatus.OK}, answer.status_code)
    return answer


async def metrics(request: Request) -> Response:
    """The whole outbox in figures, for whoever may see the console."""
    Console.of(request)
    return await exposition(request.app.state.process, request)
