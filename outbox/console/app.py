"""The console as an ASGI application."""

import traceback
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from outbox.console import acting, api, live, pages, probes, replaying
from outbox.console.access import Access, is_forged
from outbox.console.actions import Actions
from outbox.console.headers import SecurityHeaders
from outbox.console.health import Health
from outbox.console.live import Watch
from outbox.console.reads import Reads
from outbox.console.refusals import NobodyKnown, NotAllowed, NotFound, StandsOtherwise
from outbox.console.rendering import page
from outbox.errors import StoreUnusable
from outbox.settings import Settings
from outbox.store.engine import why
from outbox.telemetry.http import Process

log = structlog.get_logger()


def make_app(
    settings: Settings,
    *,
    reads: Reads,
    following: Reads,
    actions: Actions,
    health: Health,
    watch: Watch,
    process: Process,
) -> ASGIApp:
    """The console over these reads.

    Args:
        settings: who may see it, and whether payloads are shown.
        reads: of the outbox that it shows.
        following: the same, for pages that follow what happens.
        actions: what operators may do.
        health: how the components are.
        watch: tells pages when something has happened.
        process: what probes and whoever collects metrics ask of it.
    """
    app = Starlette(
        routes=[
            *api.routes(),
            Mount("/static", StaticFiles(packages=[("outbox.console", "static")])),
            *acting.routes(),
            *replaying.routes(),
            *live.routes(),
            *probes.routes(),
            *pages.routes(),
        ],
        middleware=[Middleware(_NoForgery)],
        exception_handlers={
            HTTPException: _refused,
            NobodyKnown: _nobody,
            NotAllowed: _not_allowed,
            NotFound: _not_found,
            StandsOtherwise: _stands_otherwise,
            ValidationError: _bad,
            DBAPIError: _away,
            StoreUnusable: _unusable,
            Exception: _unexpected,
        },
    )
    app.state.settings = settings
    app.state.access = Access(settings)
    app.state.reads = reads
    app.state.following = following
    app.state.actions = actions
    app.state.health = health
    app.state.watch = watch
    app.state.process = process
    # Around it all: an answer to what failed is marked, too.
    return SecurityHeaders(app)


class _NoForgery:
    """Lets nothing act that another site may have sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_forged(request := Request(scope)):
            message = "it may come from another site: send it from the console's own pages"
            await _answer(request, 403, "forbidden", message)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _refused(request: Request, error: Any) -> Response:
    return _answer(request, error.status_code, "refused", error.detail, error.headers)


def _nobody(request: Request, error: Any) -> Response:
    if _is_api(request):
        return _answer(request, 401, "unauthorized", str(error), {"www-authenticate": "Bearer"})
    if request.app.state.access.takes_tokens:
        return RedirectResponse("/login", 303)
    return _answer(request, 401, "unauthorized", "this console is not for whom it can't name")


def _not_allowed(request: Request, error: Any) -> Response:
    return _answer(request, 403, "forbidden", str(error))


def _not_found(request: Request, error: Any) -> Response:
    return _answer(request, 404, "not_found", str(error))


def _stands_otherwise(request: Request, error: Any) -> Response:
    return _answer(request, 409, "conflict", str(error))


def _bad(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"]) or "request"
    return _answer(request, 422, "bad_request", f"{name}: {first['msg']}")


def _away(request: Request, error: Any) -> Response:
    return _answer(request, 503, "unreachable", f"Postgres: {why(error)}")


def _unusable(request: Request, error: Any) -> Response:
    return _answer(request, 503, "unreachable", str(error))


def _unexpected(request: Request, error: Exception) -> Response:
    story = "".join(traceback.format_exception(error))
    log.error("console.failed", path=request.url.path, error=story)
    return _answer(request, 500, "unexpected", "the console failed at this; its log says why")


def _answer(
    request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    if _is_api(request):
        return api.Json({"error": {"code": code, "message": message}}, status, headers)
    visitor = request.app.state.access.visitor(request)
    return page(request, "error.html", status_code=status, visitor=visitor, status=status, message=message)


def _is_api(request: Request) -> bool:
    return request.url.path.startswith(f"{api.PREFIX}/")
