"""What handlers work with: who asks, and what answers."""

import re
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from starlette.requests import Request

from outbox.console.access import Visitor
from outbox.console.actions import Actions
from outbox.console.asked import SCHEDULE_ID
from outbox.console.health import Health
from outbox.console.reads import Reads
from outbox.console.refusals import NobodyKnown, NotAllowed, NotFound


@dataclass(frozen=True, slots=True)
class Console:
    """A request's own console.

    Attributes:
        shows_payloads: whether the visitor may see what requests hold.
    """

    visitor: Visitor
    reads: Reads
    shows_payloads: bool
    actions: Actions
    health: Health

    @classmethod
    def of(cls, request: Request) -> Self:
        """The console for whoever asks.

        Raises:
            NobodyKnown: it can't be told who that is.
        """
        state = request.app.state
        visitor = state.access.visitor(request)
        if visitor is None:
            raise NobodyKnown("show a token or log in")
        follows = request.headers.get("x-follows") == "1"
        reads = state.following if follows else state.reads
        shows_payloads = state.settings.console_payloads and visitor.may_act
        return cls(visitor, reads, shows_payloads, state.actions, state.health)

    @classmethod
    def to_act(cls, request: Request) -> Self:
        """The same, for somebody who wants to change something.

        Raises:
            NobodyKnown: it can't be told who that is.
            NotAllowed: they may only read.
        """
        console = cls.of(request)
        if not console.visitor.may_act:
            raise NotAllowed(f"{console.visitor.name} may read, and not act")
        return console


def intent_id_of(request: Request, text: str | None = None) -> UUID:
    """The intent that a path (or a text) names.

    Raises:
        NotFound: it is no intent's id.
    """
    named = request.path_params["intent_id"] if text is None else text
    try:
        return UUID(named)
    except ValueError:
        raise NotFound(f"{named} is no intent's id") from None


def schedule_id_of(request: Request) -> str:
    """The schedule that a path names.

    Raises:
        NotFound: it is no id that SpiceDB could hold.
    """
    named: str = request.path_params["schedule_id"]
    if re.fullmatch(SCHEDULE_ID, named) is None:
        raise NotFound(f"{named} is no schedule's id")
    return named


def replay_of(request: Request) -> int:
    """The replay in waves that a path names.

    Raises:
        NotFound: it is no number of one.
    """
    named: str = request.path_params["replay"]
    if re.fullmatch(r"\d{1,18}", named, re.ASCII) is None:
        raise NotFound(f"{named} is no replay's number")
    return int(named)


def group_of(request: Request) -> str:
    """The group of failures that a path names.

    Raises:
        NotFound: it is no group's id.
    """
    named: str = request.path_params["group"]
    if re.fullmatch(r"\w+", named, re.ASCII) is None:
        raise NotFound(f"{named} is no group's id")
    return named
