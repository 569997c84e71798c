"""Forms and JSON that browsers and programs send, read with a bound."""

from urllib.parse import parse_qsl

from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import Request

_MOST_BYTES = 1_000_000


async def form_of(request: Request) -> ImmutableMultiDict[str, str]:
    """The fields of a form.

    Raises:
        HTTPException: it is too large, or no form.
    """
    body = await body_of(request)
    try:
        return ImmutableMultiDict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
    except ValueError:
        raise HTTPException(400, "that is no form") from None


async def body_of(request: Request) -> bytes:
    """All that was sent.

    Raises:
        HTTPException: it is too large.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, f"at most {_MOST_BYTES:,} bytes are taken")
    return bytes(body)
