"""The names of the outbox in SpiceDB, and the only way here to name an object there."""

import re
from collections.abc import Mapping
from types import MappingProxyType

USER = "user"
SERVICE_ACCOUNT = "service_account"
AGENT = "agent"
SCHEDULE = "agent_schedule"
INTENT = "outbox_intent"

OWNER = "owner"
PARENT_AGENT = "parent_agent"
REGISTERED_BY = "registered_by"
ENDED = "ended"

RESOURCE_TYPES: Mapping[str, str] = MappingProxyType({"schedule": SCHEDULE})
"""The platform's public resource types, and the definition that stands for each in SpiceDB."""

_OBJECT_ID = re.compile(r"[a-zA-Z0-9/_|\-=+]{1,1024}")


def definition_of(resource_type: str) -> str:
    """Name the SpiceDB definition of a public resource type.

    Raises:
        KeyError: it has none.
    """
    return RESOURCE_TYPES[resource_type]


def object_id(text: str) -> str:
    """Return the id, if SpiceDB takes it as the id of one object.

    Every filter and relationship goes through here: in a filter, SpiceDB reads an empty id as *every* object.

    Raises:
        ValueError: it is empty, or not an object id.
    """
    if not _OBJECT_ID.fullmatch(text):
        raise ValueError(f"not an object id for SpiceDB: {text!r}")
    return text


def agent_of(schedule_id: str) -> str:
    """Name the agent that a schedule belongs to.

    Raises:
        ValueError: it isn't a schedule id.
    """
    agent_id, separator, name = schedule_id.partition("--")
    if not (agent_id and separator and name):
        raise ValueError(f"not a schedule id: {schedule_id!r}")
    return agent_id
