"""The pages of actions: a preview of what would happen to each, and what came of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from outbox.console.access import Visitor
from outbox.console.actions import Actions
from outbox.console.asked import (
    Change,
    DiscardChange,
    HaltChange,
    HoldChange,
    ReplayChange,
    SchedulesChange,
)
from outbox.console.context import Console
from outbox.console.forms import form_of
from outbox.console.refusals import NotFound
from outbox.console.rendering import page

Answers = list[dict[str, Any]]
Form = ImmutableMultiDict[str, str]


@dataclass(frozen=True, slots=True)
class _Action:
    """One kind of action.

    Attributes:
        change: what it is asked for with, and ``read`` out of a form.
        carried_out: what does it.
        template: the page of what would happen, and of what came of it.
    """

    change: type[Change]
    read: Callable[[Form], dict[str, Any]]
    carried_out: Callable[[Actions], Callable[[Any, Visitor], Awaitable[Answers]]]
    template: str = "action.html"


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
    name = request.path_params["action"]
    action = _ACTIONS.get(name)
    if action is None:
        raise NotFound(f"there is no action {name}")
    # Forms that ask for a preview have seen nothing yet.
    change = action.change.model_validate(action.read(await form_of(request)) | {"dry_run": rehearsed})
    answers = await action.carried_out(console.actions)(change, console.visitor)
    return page(
        request,
        action.template,
        visitor=console.visitor,
        action=name,
        change=change,
        answers=answers,
        acted=sum(one["action"] != "refused" for one in answers),
        done=not rehearsed,
    )


def _replay(form: Form) -> dict[str, Any]:
    return _intents(form) | {"force": "force" in form}


def _intents(form: Form) -> dict[str, Any]:
    return _several(form) | {"intents": form.getlist("of")}


def _schedules(form: Form) -> dict[str, Any]:
    return _several(form) | {"schedules": form.getlist("of")}


def _several(form: Form) -> dict[str, Any]:
    seen = dict(zip(form.getlist("of"), form.getlist("seen"), strict=False))
    return {"reason": form.get("reason") or None, "seen": seen}


def _halt(form: Form) -> dict[str, Any]:
    return {"reason": form.get("reason") or None, "what": form.get("of", ""), "seen": form.get("seen")}


def _hold(form: Form) -> dict[str, Any]:
    return _halt(form) | {"until": form.get("until") or None}


_ACTIONS = {
    "replay": _Action(ReplayChange, _replay, lambda actions: actions.replay),
    "discard": _Action(DiscardChange, _intents, lambda actions: actions.discard),
    "repair": _Action(SchedulesChange, _schedules, lambda actions: actions.repair),
    "adopt": _Action(SchedulesChange, _schedules, lambda actions: actions.adopt),
    "hold": _Action(HoldChange, _hold, lambda actions: actions.halting.hold, "halt.html"),
    "release": _Action(HaltChange, _halt, lambda actions: actions.halting.release, "halt.html"),
}
