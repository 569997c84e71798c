"""A worker's side of each store: the real clients and effects, over the simulated network."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, cast
from uuid import UUID

import grpc
from sqlalchemy.exc import OperationalError
from temporalio.service import RPCError, RPCStatusCode

from consumers.authz.client import AuthzClient
from consumers.authz.effects import AuthzEffects
from consumers.repair import RepairEffects
from consumers.temporal.client import TemporalClient
from consumers.temporal.effects import TemporalEffects
from outbox import clock
from outbox.flow.dispatch import Dispatch, Effects, Standing
from outbox.flow.settlement import Settlement
from outbox.flow.table import Consumer
from outbox.store.work import Settled, Timing
from tests.simulation.ledger.postgres import MemoryPostgres
from tests.simulation.network import Fault, Network
from tests.simulation.spicedb import Channel, MemorySpiceDB
from tests.simulation.temporal import Client, MemoryTemporal

_STATUS = {
    Fault.UNREACHABLE: (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses"),
    Fault.OVERLOADED: (grpc.StatusCode.RESOURCE_EXHAUSTED, "try again later"),
    Fault.DENIED: (grpc.StatusCode.UNAUTHENTICATED, "invalid token"),
    Fault.REFUSED: (grpc.StatusCode.INVALID_ARGUMENT, "not today"),
    Fault.BROKEN_BEFORE: (grpc.StatusCode.INTERNAL, "panic"),
    Fault.BROKEN_AFTER: (grpc.StatusCode.INTERNAL, "panic"),
}
OURS = UUID(int=1)
"""The outbox that is simulated."""

_RESET = (grpc.StatusCode.UNAVAILABLE, "Socket closed")
_TEMPORAL = {
    Fault.UNREACHABLE: (RPCStatusCode.UNAVAILABLE, "tcp connect error"),
    Fault.OVERLOADED: (RPCStatusCode.RESOURCE_EXHAUSTED, "namespace rate limit exceeded"),
    Fault.DENIED: (RPCStatusCode.NOT_FOUND, "Namespace default is not found."),
    Fault.REFUSED: (RPCStatusCode.INVALID_ARGUMENT, "not today"),
    Fault.BROKEN_BEFORE: (RPCStatusCode.INTERNAL, "panic"),
    Fault.BROKEN_AFTER: (RPCStatusCode.INTERNAL, "panic"),
}
_TEMPORAL_RESET = (RPCStatusCode.UNKNOWN, "transport error")


def spicedb_failure(fault: Fault) -> Exception:
    """What the client of SpiceDB sees of a fault."""
    status, text = _STATUS.get(fault, _RESET)
    error: Exception = grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(), details=text)
    return error


def temporal_failure(fault: Fault) -> Exception:
    """What the client of Temporal sees of a fault."""
    status, text = _TEMPORAL.get(fault, _TEMPORAL_RESET)
    return RPCError(text, status, b"")


def postgres_failure(fault: Fault) -> Exception:
    """What the client of Postgres sees of a fault."""
    return OperationalError(None, None, ConnectionError(fault.value), connection_invalidated=True)


class Watcher(Protocol):
    """Judges what one worker claims and settles, at the moment it takes effect."""

    def claimed(self, leased: Sequence[Dispatch]) -> None:
        """These were leased to the worker."""
        ...

    def settles(self, batch: Sequence[Settlement]) -> None:
        """The worker's settlements have arrived, and are about to take effect, as far as they match."""
        ...

    def settled(self, matched: AbstractSet[tuple[UUID, int]]) -> None:
        """These settlements of the worker, by intent and lease number, matched."""
        ...


class SimulatedStore:
    """Stands for ``outbox.store.work.WorkStore``: the same calls, over the network."""

    def __init__(self, postgres: MemoryPostgres, network: Network, timing: Timing, watcher: Watcher) -> None:
        self._postgres = postgres
        self._network = network
        self._timing = timing
        self._watcher = watcher

    async def claim(self, limits: Mapping[Consumer, int]) -> list[Dispatch]:
        """Lease due steps."""
        deadline = clock.monotonic() + self._timing.step_timeout

        def act() -> list[Dispatch]:
            leased = self._postgres.claim(limits, deadline)
            self._watcher.claimed(leased)
            return leased

        taken: list[Dispatch] = await self._network.call("claim", act)
        return taken

    async def settle(
        self, settlements: Sequence[Settlement], *, room: Mapping[Consumer, int], wake: bool = False
    ) -> Settled:
        """Settle a batch."""
        batch = tuple(settlements)
        deadline = clock.monotonic() + self._timing.step_timeout

        def act() -> Settled:
            self._watcher.settles(batch)
            settled = self._postgres.settle(batch, room, deadline)
            self._watcher.settled(settled.matched)
            self._watcher.claimed(settled.handed)
            if wake and settled.matched:
                self._postgres.on_work()
            return settled

        told = ", ".join(
            f"{one.event_type.value} {one.action.value} {str(one.intent_id)[-4:]}" for one in batch
        )
        settled: Settled = await self._network.call(f"settle {told}", act)
        return settled

    async def standing(self, schedule_id: str, stamp: str) -> Standing:
        """Tell what a stamp is."""
        found: Standing = await self._network.call(
            "standing", lambda: self._postgres.standing(schedule_id, stamp)
        )
        return found

    async def pending(self, *, repairs: bool) -> bool:
        """Tell whether anything goes on."""
        found: bool = await self._network.call("pending", lambda: self._postgres.pending(repairs=repairs))
        return found


def effects(
    store: SimulatedStore,
    spicedb: tuple[MemorySpiceDB, Network],
    temporal: tuple[MemoryTemporal, Network],
) -> dict[Consumer, Effects]:
    """The real effects with the real clients, over the network."""
    authz = AuthzEffects(AuthzClient(Channel(spicedb[0], spicedb[1].send), "token"), store)
    client = TemporalClient(cast("Any", Client(temporal[0], temporal[1].send)))
    schedules = TemporalEffects(client, store, OURS)
    return {
        Consumer.AUTHZ: authz,
        Consumer.TEMPORAL: schedules,
        Consumer.BOTH: RepairEffects(authz, schedules),
    }
