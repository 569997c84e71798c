"""Reads both stores as any client would: by their vendors' own clients, and none of the outbox's code."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from authzed.api.v1 import Consistency, ReadRelationshipsRequest, RelationshipFilter
from authzed.api.v1.permission_service_pb2_grpc import PermissionsServiceStub
from temporalio.api.common.v1 import Memo
from temporalio.client import Client
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from outbox.settings import Settings
from tests.chaos.recorder import Recorder

_SECONDS = 5.0
_AGAIN_SECONDS = 0.5
# A channel that was refused would else not try again for minutes.
_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2_000))
# The last is what a client says that can't connect.
_AWAY = (grpc.aio.AioRpcError, RPCError, TimeoutError, RuntimeError)


class Eyes:
    """Looks at schedules, and writes down what it sees."""

    def __init__(self, history: Recorder, channel: grpc.aio.Channel, token: str, temporal: Client) -> None:
        self._history = history
        self._spicedb = PermissionsServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._temporal = temporal

    async def see(self, schedule_id: str, what: str = "read") -> None:
        """Look until both stores have shown what they have.

        Args:
            schedule_id: of the schedule.
            what: it is called: ``found``, where others put it there before the campaign began.
        """
        while not await self.look(schedule_id, what):  # noqa: ASYNC110 - a store that is away tells nobody
            await asyncio.sleep(_AGAIN_SECONDS)

    async def look(self, schedule_id: str, what: str = "read") -> bool:
        """Read a schedule in Temporal, then in SpiceDB; whether both answered."""
        answered = True
        for store, read in (("temporal", self._schedule), ("spicedb", self._relations)):
            asked = self._history.ask("observer", what, schedule_id, store=store)
            try:
                async with asyncio.timeout(_SECONDS):
                    found = await read(schedule_id)
            except _AWAY as error:
                asked.failed(error)
                answered = False
            else:
                asked.told(found=found)
        return answered

    async def _relations(self, schedule_id: str) -> list[str]:
        request = ReadRelationshipsRequest(
            consistency=Consistency(fully_consistent=True),
            relationship_filter=RelationshipFilter(
                resource_type="agent_schedule", optional_resource_id=schedule_id
            ),
        )
        answer = self._spicedb.ReadRelationships(request, metadata=self._metadata, timeout=_SECONDS)
        return sorted([_words(one.relationship) async for one in answer])

    async def _schedule(self, schedule_id: str) -> dict[str, Any] | None:
        try:
            described = await self._temporal.get_schedule_handle(schedule_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        raw = described.raw_description
        return {
            "stamp": _text(raw.memo, "outbox_intent_id"),
            "revision": _text(raw.schedule.action.start_workflow.memo, "outbox_revision"),
            "hours": [at.start for one in raw.schedule.spec.structured_calendar for at in one.hour],
            "paused": raw.schedule.state.paused,
            "note": raw.schedule.state.notes,
        }


@asynccontextmanager
async def open_eyes(settings: Settings, history: Recorder) -> AsyncIterator[Eyes]:
    """Eyes on the stores that the settings name; connected by the first look."""
    assert settings.spicedb_token
    at_once = RetryConfig(max_retries=1)
    temporal = await Client.connect(settings.temporal_address, lazy=True, retry_config=at_once)
    async with grpc.aio.insecure_channel(settings.spicedb_endpoint, options=_OPTIONS) as channel:
        yield Eyes(history, channel, settings.spicedb_token.get_secret_value(), temporal)


def _words(relationship: Any) -> str:
    subject = relationship.subject.object
    return f"{relationship.relation}@{subject.object_type}:{subject.object_id}"


def _text(memo: Memo, key: str) -> str | None:
    return str(json.loads(memo.fields[key].data)) if key in memo.fields else None
