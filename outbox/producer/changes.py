"""What an update says of a field: a value, or nothing, and then the field stays as it is."""

from enum import Enum
from typing import Annotated, Any, Final, TypeVar, Union, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")


class Unset(Enum):
    """The type of ``UNSET``."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "outbox.UNSET"


UNSET: Final = Unset.UNSET
"""Of a field of ``UpdateSchedule``: it stays as it is. What is left out is so, too."""


class _WithoutUnset:
    """Keeps ``UNSET`` from pydantic: JSON knows no such value, and no error is to speak of it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        values = tuple(one for one in get_args(source) if one is not Unset)
        schema: dict[str, Any] = dict(handler(Union[values]))  # noqa: UP007 - of as many as there are
        return schema | {"serialization": core_schema.simple_ser_schema("any")}


Change = Annotated[T | Unset, _WithoutUnset()]
"""A field of an update, which may hold what that of a create may."""
