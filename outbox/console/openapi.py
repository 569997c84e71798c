"""The OpenAPI document of the API, made of the models of its requests and of its answers."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from outbox.console.answers import Refusal

Document = dict[str, Any]

_REFUSALS = {
    "401": "Nobody known: show a token",
    "403": "The visitor may not do this",
    "404": "There is no such thing",
    "409": "It stands otherwise by now",
    "413": "Too much was sent",
    "422": "A parameter is wrong; the message names it",
    "503": "Postgres, or a store, can't be read",
}
_PLACE = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of the API.

    Attributes:
        handler: answers it; what its first line says is its summary.
        answer: what it answers.
        query: its parameters.
        body: what it is sent.
    """

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    answer: type[Any]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None


def document(operations: Sequence[Operation], prefix: str) -> Document:
    """The document of these operations."""
    answered: set[type[Any]] = {Refusal, *(one.answer for one in operations)}
    found, schemas = TypeAdapter.json_schemas(
        [(one.__name__, "serialization", TypeAdapter(one)) for one in answered], ref_template=_PLACE
    )
    answers = {name: schema for (name, _), schema in found.items()}
    paths: dict[str, Document] = {}
    for one in operations:
        path = prefix + re.sub(r":path}", "}", one.path)
        paths.setdefault(path, {})[one.method.lower()] = _described(one, path, answers)
    return {
        "openapi": "3.1.0",
        "info": {"title": "outbox console", "version": version("agent-schedule-outbox")},
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas["$defs"],
        },
    }


def _described(one: Operation, path: str, answers: Mapping[str, Document]) -> Document:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]
    refused = _content(answers[Refusal.__name__])
    described: Document = {
        "operationId": one.handler.__name__,
        "summary": (one.handler.__doc__ or "").splitlines()[0],
        "parameters": in_path + (_parameters(one.query) if one.query else []),
        "responses": {
            "200": {"description": "The answer", "content": _content(answers[one.answer.__name__])},
            **{code: {"description": why, "content": refused} for code, why in _REFUSALS.items()},
        },
    }
    if one.body:
        described["requestBody"] = {"required": True, "content": _content(one.body.model_json_schema())}
    return described


def _content(schema: Document) -> Document:
    return {"application/json": {"schema": schema}}


def flat(model: type[BaseModel]) -> Document:
    """A model's JSON schema with nothing in it that refers to something else."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    found: Document = _whole(schema, definitions)
    return found


def _parameters(query: type[BaseModel]) -> list[Document]:
    return [
        {"name": name, "in": "query", "required": False, "schema": found}
        for name, found in flat(query)["properties"].items()
    ]


def _whole(schema: Any, definitions: Document) -> Any:
    """A schema with what it refers to in its place: a parameter has no definitions of its own."""
    if isinstance(schema, list):
        return [_whole(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _whole(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _whole(value, definitions) for name, value in schema.items()}
