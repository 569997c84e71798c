"""The stores of the simulation, reached at once and without trouble, for the suites of the real ones."""

from collections.abc import Callable
from typing import Any, cast

import grpc

from tests.simulation.spicedb import Channel, MemorySpiceDB
from tests.simulation.temporal import Client, MemoryTemporal


async def _send(method: str, request: Any, act: Callable[[], Any], seconds: float) -> Any:
    del method, request, seconds
    return act()


def spicedb_in_memory() -> grpc.aio.Channel:
    """A channel to an empty SpiceDB with the schema."""
    return cast("grpc.aio.Channel", Channel(MemorySpiceDB(), _send))


def temporal_in_memory() -> Client:
    """A client of an empty Temporal."""
    return Client(MemoryTemporal(), _send)
