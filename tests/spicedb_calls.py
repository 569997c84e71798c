"""What workers ask SpiceDB for, as a proxy before it saw it."""

from authzed.api.v1 import DeleteRelationshipsRequest, RelationshipFilter

from consumers.authz.names import SCHEDULE
from outbox.testing import Call, FaultProxy

REMOVE = "DeleteRelationships"


def removals(proxy: FaultProxy) -> list[Call]:
    """The calls that would remove relationships of schedules; the others only ask, by their conditions."""
    return [call for call in proxy.calls(REMOVE) if _filter_of(call).resource_type == SCHEDULE]


def questions(proxy: FaultProxy) -> list[Call]:
    """Those that ask by their conditions."""
    return [call for call in proxy.calls(REMOVE) if call not in removals(proxy)]


def _filter_of(call: Call) -> RelationshipFilter:
    return DeleteRelationshipsRequest.FromString(call.request).relationship_filter
