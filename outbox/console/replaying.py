"""The pages of replays in waves: a plan with its reasons, its progress, and what may be done to it."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from outbox.console.asked import Because, ItemsQuery, PlanChange, ReplaysQuery
from outbox.console.context import Console, group_of, replay_of
from outbox.console.forms import form_of
from outbox.console.refusals import NotFound
from outbox.console.rendering import page


def routes() -> list[BaseRoute]:
    """Their places."""
    return [
        Route("/replays", replays),
        Route("/replays/{replay}", replay),
        Route("/replays/{replay}/start", start, methods=["POST"]),
        Route("/replays/{replay}/abort", abort, methods=["POST"]),
        Route("/failures/{group}/plan", plan, methods=["POST"]),
    ]


async def replays(request: Request) -> Response:
    """All of them, the newest first."""
    console = Console.of(request)
    query = ReplaysQuery.of(request.query_params)
    found = await console.reads.replays(query)
    return page(request, "replays.html", visitor=console.visitor, found=found, asked=query)


async def replay(request: Request) -> Response:
    """One: its plan, and how its waves come out."""
    console = Console.of(request)
    wanted = replay_of(request)
    query = ItemsQuery.of(request.query_params)
    found = await console.reads.replay(wanted)
    if found is None:
        raise NotFound(f"there is no replay {wanted}")
    items = await console.reads.replay_items(wanted, query)
    return page(request, "replay.html", visitor=console.visitor, found=found, items=items, asked=query)


async def plan(request: Request) -> Response:
    """Plan the replay of a whole group, and lead to the plan."""
    console = Console.to_act(request)
    group = group_of(request)
    form = await form_of(request)
    tolerate = form.get("tolerate")
    asked = {"group": group, "force": "force" in form, "reason": form.get("reason") or None}
    # People say it in percent.
    change = PlanChange.model_validate(asked | ({"tolerate": f"{tolerate}e-2"} if tolerate else {}))
    found = await console.actions.waves.plan(change, console.visitor)
    if found is None:
        raise NotFound(f"there is no group {group}: has all of it been dealt with?")
    return RedirectResponse(f"/replays/{found['id']}", 303)


async def start(request: Request) -> Response:
    """Start what is planned."""
    console = Console.to_act(request)
    await console.actions.waves.start(replay_of(request), await _because(request), console.visitor)
    return _back(request)


async def abort(request: Request) -> Response:
    """End it before its time."""
    console = Console.to_act(request)
    await console.actions.waves.abort(replay_of(request), await _because(request), console.visitor)
    return _back(request)


async def _because(request: Request) -> Because:
    return Because.model_validate({"reason": (await form_of(request)).get("reason") or None})


def _back(request: Request) -> Response:
    return RedirectResponse(f"/replays/{replay_of(request)}", 303)
