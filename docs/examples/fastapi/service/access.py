"""Who may do what, as SpiceDB knows it."""

from authzed.api.v1 import (
    AsyncClient,
    CheckPermissionRequest,
    CheckPermissionResponse,
    Consistency,
    LookupResourcesRequest,
    ObjectReference,
    SubjectReference,
    ZedToken,
)

_ALLOWED = CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION
_NEWEST = Consistency(fully_consistent=True)


def _user(name: str) -> SubjectReference:
    return SubjectReference(object=ObjectReference(object_type="user", object_id=name))


async def may(
    spicedb: AsyncClient, user: str, permission: str, kind: str, object_id: str, *, seen: str | None = None
) -> bool:
    """Whether a user has a permission.

    Args:
        spicedb: the client.
        user: who asks.
        permission: such as ``update``.
        kind: such as ``agent``.
        object_id: of that kind.
        seen: a zed token: the answer is no older than that. None: it is the newest, which costs more.
    """
    consistency = Consistency(at_least_as_fresh=ZedToken(token=seen)) if seen else _NEWEST
    answer = await spicedb.CheckPermission(
        CheckPermissionRequest(
            consistency=consistency,
            subject=_user(user),
            permission=permission,
            resource=ObjectReference(object_type=kind, object_id=object_id),
        )
    )
    return bool(answer.permissionship == _ALLOWED)


async def readable(spicedb: AsyncClient, user: str) -> list[str]:
    """The ids of the schedules that a user may read."""
    found = spicedb.LookupResources(
        LookupResourcesRequest(
            consistency=_NEWEST,
            subject=_user(user),
            permission="read",
            resource_object_type="agent_schedule",
        )
    )
    return sorted([one.resource_object_id async for one in found])
