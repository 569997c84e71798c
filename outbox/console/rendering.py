"""Templates, and what they use to show what was read."""

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from outbox.console import charts, words
from outbox.console.access import Visitor
from outbox.store.halts import Halt

_environment = Environment(
    loader=PackageLoader("outbox.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(
    request: Request, template: str, *, status_code: int = 200, visitor: Visitor | None, **shown: Any
) -> HTMLResponse:
    """Render a template as a page."""
    # What a form has led to can't be read again by its address.
    follows = request.method == "GET" and status_code == HTTPStatus.OK
    known = {"follows": follows, "visitor": visitor, "path": request.url.path, "query": request.query_params}
    content = _environment.get_template(template).render(known | shown)
    return HTMLResponse(content, status_code)


def _when(at: datetime) -> Markup:
    """A time that the page's script turns into how long ago it was."""
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(), words.moment(at), words.moment(at)
    )


def _shown(text: str) -> Markup:
    """Text of somebody else's, in its own direction."""
    return Markup("<bdi>{}</bdi>").format(words.visible(text))


def _query(parameters: Mapping[str, Any], **changes: Any) -> str:
    """A URL's parameters, with some of them changed or (None) left out."""
    return urlencode({name: value for name, value in {**parameters, **changes}.items() if value})


_environment.filters |= {"when": _when, "shown": _shown, "span": words.span, "payload": words.payload}
_environment.globals |= {"changed": _query, "charts": charts, "Halt": Halt}
