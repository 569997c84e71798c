"""The pages of actions: a preview of what would happen to each, and what came of it."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from outbox.console.asked import Change, DiscardChange, ReplayChange, SchedulesChange
from outbox.console.context import Console, NotFound
from outbox.console.forms import form_of
from outbox.console.rendering import page

Answers = list[dict[str, Any]]
Form = ImmutableMultiDict[str, str]

_OF_INTENTS: dict[str, type[ReplayChange | DiscardChange]] = {
    "replay": ReplayChange,
    "discard": DiscardChange,
}
_OF_SCHEDULES = frozenset({"repair", "adopt"})


def routes() -> list[BaseRoute]:
    """Their places."""
    return [
        Route("/preview/{action}", preview, methods=["POST"]),
        Route("/act/{action}", act, methods=["POST"]),
    ]


async def preview(request: Request) -> Response:
    """Tell what would happen to each of those that were chosen."""
    return await _answered(request, rehearsed=True)


async def act(request: Request) -> Response:
    """Do it to what was previewed, and tell what came of it."""
    return await _answered(request, rehearsed=False)


async def _answered(request: Request, *, rehearsed: bool) -> Response:
    console = Console.to_act(request)
    action = request.path_params["action"]
    form = await form_of(request)
    if action in _OF_INTENTS:
        change: Change = _OF_INTENTS[action].model_validate(_of_intents(form, action, rehearsed=rehearsed))
    elif action in _OF_SCHEDULES:
        change = SchedulesChange.model_validate(_of_schedules(form, rehearsed=rehearsed))
    else:
        raise NotFound(f"there is no action {action}")
    carry_out: Callable[..., Awaitable[Answers]] = getattr(console.actions, action)
    answers = await carry_out(change, console.visitor)
    return page(
        request,
        "action.html",
        visitor=console.visitor,
        action=action,
        change=change,
        answers=answers,
        acted=sum(one["action"] != "refused" for one in answers),
        done=not rehearsed,
    )


def _of_intents(form: Form, action: str, *, rehearsed: bool) -> dict[str, Any]:
    found = _common(form, rehearsed=rehearsed) | {"intents": form.getlist("of")}
    return found | {"force": "force" in form} if action == "replay" else found


def _of_schedules(form: Form, *, rehearsed: bool) -> dict[str, Any]:
    return _common(form, rehearsed=rehearsed) | {"schedules": form.getlist("of")}


def _common(form: Form, *, rehearsed: bool) -> dict[str, Any]:
    seen = dict(zip(form.getlist("of"), form.getlist("seen"), strict=False))
    return {"dry_run": rehearsed, "reason": form.get("reason") or None, "seen": {} if rehearsed else seen}
