"""The pages: each reads what the API reads, and renders it."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from outbox.console.access import COOKIE, SESSION_SECONDS
from outbox.console.asked import AuditQuery, IntentsQuery, OperationsQuery, PageQuery, ScheduleQuery
from outbox.console.context import Console, group_of, intent_id_of, schedule_id_of
from outbox.console.forms import form_of
from outbox.console.refusals import NotFound
from outbox.console.rendering import page
from outbox.errors import ErrorCode
from outbox.flow.table import Kind, Status

COUNTED = (
    "pending",
    "incoming",
    "behind",
    "ready",
    "dispatched",
    "leased",
    "waiting_retry",
    "holding",
    "halted",
    "parked",
    "deferred",
    "unpublished",
)


def routes() -> list[BaseRoute]:
    """Their places."""
    return [
        Route("/", overview),
        Route("/intents", intents),
        Route("/intents/{intent_id}", intent),
        Route("/schedules/{schedule_id:path}", schedule),
        Route("/failures", failures),
        Route("/failures/{group}", failure_group),
        Route("/audit", audit),
        Route("/operations", operations),
        Route("/health", health),
        Route("/find", find),
        Route("/login", login, methods=["GET", "POST"]),
        Route("/logout", logout, methods=["POST"]),
    ]


async def overview(request: Request) -> Response:
    """How it stands."""
    console = Console.of(request)
    found = await console.reads.overview()
    return page(request, "overview.html", visitor=console.visitor, found=found, counted=COUNTED)


async def intents(request: Request) -> Response:
    """The intents that match the filter, which is the URL."""
    console = Console.of(request)
    query = IntentsQuery.of(request.query_params)
    found = await console.reads.intents(query)
    choices = {"status": list(Status), "kind": list(Kind), "code": list(ErrorCode)}
    return page(request, "intents.html", visitor=console.visitor, found=found, asked=query, choices=choices)


async def intent(request: Request) -> Response:
    """One intent."""
    console = Console.of(request)
    wanted = intent_id_of(request)
    found = await console.reads.intent(wanted, payload=console.shows_payloads)
    if found is None:
        raise NotFound(f"there is no intent {wanted}")
    return page(request, "intent.html", visitor=console.visitor, found=found, now=datetime.now(UTC))


async def schedule(request: Request) -> Response:
    """One lane's whole story."""
    console = Console.of(request)
    wanted = schedule_id_of(request)
    query = ScheduleQuery.of(request.query_params)
    found = await console.reads.schedule(wanted, query.limit)
    if found is None:
        raise NotFound(f"there is no schedule {wanted}, neither in the ledger nor in SpiceDB or Temporal")
    return page(
        request,
        "schedule.html",
        visitor=console.visitor,
        found=found,
        limit=query.limit,
        now=datetime.now(UTC),
    )


async def failures(request: Request) -> Response:
    """What has failed or is parked, in groups."""
    console = Console.of(request)
    found = await console.reads.failures()
    return page(request, "failures.html", visitor=console.visitor, found=found)


async def failure_group(request: Request) -> Response:
    """One group: its intents, to be chosen from."""
    console = Console.of(request)
    group = group_of(request)
    query = PageQuery.of(request.query_params)
    found = await console.reads.failure_group(group, query)
    groups = (await console.reads.failures())["groups"]
    about = next((one for one in groups if one["group_id"] == group), None)
    if found is None or about is None:
        raise NotFound(f"there is no group {group}: has all of it been dealt with?")
    return page(request, "failure_group.html", visitor=console.visitor, found=found, about=about, asked=query)


async def audit(request: Request) -> Response:
    """What differs between the stores."""
    console = Console.of(request)
    query = AuditQuery.of(request.query_params)
    found = await console.reads.audit(query)
    return page(request, "audit.html", visitor=console.visitor, found=found, asked=query)


async def operations(request: Request) -> Response:
    """What operators did."""
    console = Console.of(request)
    query = OperationsQuery.of(request.query_params)
    found = await console.reads.operations(query)
    return page(request, "operations.html", visitor=console.visitor, found=found, asked=query)


async def health(request: Request) -> Response:
    """How the components are, and what is set."""
    console = Console.of(request)
    components = await console.health.components()
    return page(
        request,
        "health.html",
        visitor=console.visitor,
        components=components,
        settings=console.health.settings(),
    )


async def find(request: Request) -> Response:
    """Lead to what somebody has typed: an intent's id, or a part of a schedule's."""
    Console.of(request)
    text = request.query_params.get("text", "").strip()
    try:
        wanted = intent_id_of(request, text)
    except NotFound:
        return RedirectResponse("/intents?" + urlencode({"schedule": text}), 303)
    return RedirectResponse(f"/intents/{wanted}", 303)


async def login(request: Request) -> Response:
    """Ask for a token, and take it."""
    access = request.app.state.access
    if request.method == "GET":
        return page(request, "login.html", visitor=None, wrong=False, takes_tokens=access.takes_tokens)
    form = await form_of(request)
    cookie = access.log_in(form.get("token", ""), form.get("name", ""))
    if cookie is None:
        return page(request, "login.html", status_code=401, visitor=None, wrong=True, takes_tokens=True)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        COOKIE,
        cookie,
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=access.is_secure(request),
    )
    return answer


async def logout(request: Request) -> Response:
    """Forget the token."""
    del request
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer
