"""What goes wrong, as problem details (RFC 9457)."""

from typing import Any

import grpc
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from temporalio.service import RPCError

import outbox

_TYPES = "tag:example.com,2026:"
_STATUSES = {
    outbox.ErrorCode.CONFLICT_FOREIGN: 409,
    outbox.ErrorCode.CONFLICT_LIVE: 409,
    outbox.ErrorCode.NOT_LIVE: 404,
    outbox.ErrorCode.REFUSED: 422,
    outbox.ErrorCode.REGISTRATION_REFUSED: 422,
}


class Problem(Exception):  # noqa: N818 - the name that the RFC gives it
    """Ends a request; ``more`` are members of the answer beside the usual ones."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.document = {"type": _TYPES + code, "status": status, "detail": detail, **more}

    @classmethod
    def of(cls, intent_id: object, error: outbox.IntentError) -> "Problem":
        """Why an intent failed."""
        status = _STATUSES.get(outbox.ErrorCode(error.code), 500)
        return cls(status, error.code, error.message, intent_id=str(intent_id))

    def answer(self) -> JSONResponse:
        """What the client gets."""
        return JSONResponse(self.document, self.status, media_type="application/problem+json")


def forbidden(permission: str, what: str) -> Problem:
    """Whoever asks may not."""
    return Problem(403, "forbidden", f"you may not {permission} {what}")


def not_found(schedule_id: str) -> Problem:
    """There is none, or none that whoever asks may read: which of the two is not told."""
    return Problem(404, "not_found", f"there is no schedule {schedule_id}")


def handle(app: FastAPI) -> None:
    """Have the app answer so."""

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> JSONResponse:
        return error.answer()

    @app.exception_handler(RequestValidationError)
    async def invalid_body(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [_wrong(*error["loc"], reason=error["msg"]) for error in error.errors()]
        return Problem(422, "invalid", "the request is not valid", errors=errors).answer()

    @app.exception_handler(outbox.InvalidRequest)
    async def invalid_request(_: Request, error: outbox.InvalidRequest) -> JSONResponse:
        errors = [_wrong("body", *error.field.split("."), reason=error.reason)]
        return Problem(422, "invalid", "the request is not valid", errors=errors).answer()

    @app.exception_handler(outbox.IdempotencyConflict)
    async def used_key(_: Request, error: outbox.IdempotencyConflict) -> JSONResponse:
        return Problem(422, "used_key", str(error)).answer()

    @app.exception_handler(grpc.RpcError)
    async def no_answer(_: Request, error: grpc.RpcError) -> JSONResponse:
        return Problem(503, "unavailable", f"SpiceDB gave no answer: {error.code()}").answer()

    @app.exception_handler(RPCError)
    async def no_answer_either(_: Request, error: RPCError) -> JSONResponse:
        return Problem(503, "unavailable", f"Temporal gave no answer: {error.status.name}").answer()


def _wrong(where: str, *path: object, reason: str) -> dict[str, str]:
    """What is wrong, and where: of a body a JSON pointer, else the parameter's name."""
    if where != "body":
        return {"parameter": str(path[0]), "detail": reason}
    places = (str(place).replace("~", "~0").replace("/", "~1") for place in path)
    return {"pointer": "#" + "".join(f"/{place}" for place in places), "detail": reason}
