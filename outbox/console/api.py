"""The JSON API: the same reads as the pages', in the stable shapes."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from outbox.console.asked import IntentsQuery, ScheduleQuery
from outbox.console.context import Console, NotFound, intent_id_of

PREFIX = "/api/v1"


class Json(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode it."""
        return orjson.dumps(content, default=str)


def routes() -> list[BaseRoute]:
    """Their places."""
    return [
        Route(f"{PREFIX}/overview", overview),
        Route(f"{PREFIX}/intents", intents),
        Route(f"{PREFIX}/intents/{{intent_id}}", intent),
        Route(f"{PREFIX}/schedules/{{schedule_id:path}}", schedule),
    ]


async def overview(request: Request) -> Json:
    """How much waits and where, what ended lately, what is down; the last hour, minute by minute."""
    return Json(await Console.of(request).reads.overview())


async def intents(request: Request) -> Json:
    """A page of the intents that match, the newest first."""
    reads = Console.of(request).reads
    return Json(await reads.intents(IntentsQuery.of(request.query_params)))


async def intent(request: Request) -> Json:
    """One intent with all that happened to it."""
    console = Console.of(request)
    wanted = intent_id_of(request)
    found = await console.reads.intent(wanted, payload=console.shows_payloads)
    if found is None:
        raise NotFound(f"there is no intent {wanted}")
    return Json(found)


async def schedule(request: Request) -> Json:
    """One lane: its timeline, why it waits, and what each store holds."""
    wanted = request.path_params["schedule_id"]
    query = ScheduleQuery.of(request.query_params)
    found = await Console.of(request).reads.schedule(wanted, query.limit)
    if found is None:
        raise NotFound(f"there is no schedule {wanted}")
    return Json(found)
