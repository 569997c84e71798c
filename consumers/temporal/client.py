"""The calls to Temporal that the project makes: on its raw service, with deadline and metadata.

The client's own methods are passed by for their hidden retries, which outlast a call's time-out, and for
the fresh request id that they give each create (rules 2 and 4).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

from temporalio.api.schedule.v1 import Schedule
from temporalio.api.workflowservice.v1 import (
    DeleteScheduleRequest,
    DescribeNamespaceRequest,
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    ListSchedulesRequest,
    UpdateScheduleRequest,
)
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.service import TLSConfig

from consumers.calls import Call, StoreFailure, method_of
from consumers.temporal.described import request_of, summary_of
from consumers.temporal.errors import STORE, Absent, Taken, classify
from consumers.temporal.request import create_request, instance_in, revision_in, stamp_in, update_request
from outbox.current import calling
from outbox.errors import ErrorCode
from outbox.failpoints import reach
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Transient, Unknown

T = TypeVar("T")


class AlreadyTaken(Exception):  # noqa: N818 - an answer to look into, not an error
    """A schedule of the id exists, created by another request; nothing was created."""


class NotThere(Exception):  # noqa: N818 - an answer, not an error
    """There is no schedule of the id."""


@dataclass(frozen=True, slots=True)
class Found:
    """A schedule that exists, and the intent that its memo names (None: it has no stamp).

    Attributes:
        instance: the outbox that its memo names, if it names any. A stamp alone says whose the schedule is.
        revision: the update that changed it last, if any did; lists don't tell.
    """

    stamp: str | None
    instance: str | None = field(default=None, compare=False)
    revision: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Described:
    """A schedule as it was just read: what it carries, what it says, and the token of this state of it."""

    found: Found
    schedule: Schedule
    token: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a namespace's schedules by their ids, and where to read on (empty: the end)."""

    schedules: dict[str, Found]
    following: bytes


class TemporalClient:
    """Temporal, as this project talks to it.

    Args:
        client: connected or lazy; its namespace and data converter are used, its interceptors are not.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._service = client.workflow_service

    @classmethod
    async def connect(
        cls,
        address: str,
        namespace: str,
        *,
        api_key: str | None = None,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        tls_ca: Path | None = None,
        data_converter: DataConverter | None = None,
    ) -> Self:
        """Prepare a client; the connection is made by the first call.

        TLS is on where an API key or any of the three files is given: neither belongs on a line in the clear.

        Raises:
            OSError: a file can't be read.
            ValueError: a certificate without its key, or the other way round.
        """
        tls = _tls(tls_cert, tls_key, tls_ca) or api_key is not None
        client = await Client.connect(
            address,
            namespace=namespace,
            api_key=api_key,
            tls=tls,
            data_converter=data_converter or DataConverter.default,
            lazy=True,
        )
        return cls(client)

    async def create(self, dispatch: Dispatch, instance: UUID, call: Call, *, anew: bool = False) -> None:
        """Create the schedule that the dispatch's intent asks for.

        Args:
            dispatch: of the create.
            instance: the id of this outbox.
            call: its deadline and metadata.
            anew: under a request id that the server can't remember, so that OK says that it was created.

        Raises:
            AlreadyTaken: the id is taken.
            StoreFailure: anything else that it isn't created for.
        """
        request = await _built(
            create_request(
                dispatch,
                instance,
                namespace=self._client.namespace,
                identity=self._client.identity,
                converter=self._client.data_converter,
                anew=anew,
            )
        )
        await self._bounded(self._service.create_schedule, request, call)

    async def update(
        self,
        dispatch: Dispatch,
        present: Described,
        call: Call,
        *,
        revision: UUID | None,
        changes: frozenset[str],
    ) -> None:
        """Write the definition that the dispatch carries, if the schedule is still as it was read.

        That nothing is raised doesn't say that it was written: where somebody else wrote meanwhile, the
        server answers OK, too.

        Args:
            dispatch: its request is the whole definition.
            present: the schedule as it was just read.
            call: its deadline and metadata.
            revision: that the schedule is to tell.
            changes: the fields that are changed though people may have changed them by hand.

        Raises:
            NotThere: there is no such schedule any more.
            StoreFailure: anything else that it isn't written for.
        """
        request: UpdateScheduleRequest = await _built(
            update_request(
                dispatch,
                present.schedule,
                present.token,
                revision=revision,
                changes=changes,
                namespace=self._client.namespace,
                identity=self._client.identity,
                converter=self._client.data_converter,
            )
        )
        await self._bounded(self._service.update_schedule, request, call)

    async def describe(self, schedule_id: str, call: Call) -> Found | None:
        """Read a schedule's stamp; None if there is no such schedule."""
        described = await self.read(schedule_id, call)
        return None if described is None else described.found

    async def read(self, schedule_id: str, call: Call) -> Described | None:
        """Read a schedule; None if there is none."""
        response = await self._describe(schedule_id, call)
        if response is None:
            return None
        found = Found(stamp_in(response.memo), instance_in(response.memo), revision_in(response.schedule))
        return Described(found, response.schedule, response.conflict_token)

    async def definition(self, schedule_id: str, call: Call) -> tuple[Found, dict[str, Any]] | None:
        """Read a schedule's stamp, and the request of an intent that would create it as it is now."""
        described = await self.read(schedule_id, call)
        if described is None:
            return None
        return described.found, request_of(schedule_id, described.schedule)

    async def summary(self, schedule_id: str, call: Call) -> dict[str, Any] | None:
        """Read what a person wants to know of a schedule, as JSON; None if there is no such schedule."""
        response = await self._describe(schedule_id, call)
        if response is None:
            return None
        carried = {"stamp": stamp_in(response.memo), "instance": instance_in(response.memo)}
        return carried | {"revision": revision_in(response.schedule)} | summary_of(response)

    async def list_page(self, token: bytes, call: Call, *, limit: int) -> Page:
        """Read on through the namespace's schedules, from where a page before left off.

        The list lags behind what ``describe`` tells.
        """
        request = ListSchedulesRequest(
            namespace=self._client.namespace, maximum_page_size=limit, next_page_token=token
        )
        try:
            response = await self._bounded(self._service.list_schedules, request, call, reads=True)
        except NotThere as error:
            # What a token stood for is gone; the caller starts over.
            raise StoreFailure(Transient(ErrorCode.RACED, f"{STORE}: {error}")) from error
        found = {
            entry.schedule_id: Found(stamp_in(entry.memo), instance_in(entry.memo))
            for entry in response.schedules
        }
        return Page(found, response.next_page_token)

    async def delete(self, schedule_id: str, call: Call) -> None:
        """Delete a schedule, whatever it is: the server takes no condition. That it isn't there is fine."""
        request = DeleteScheduleRequest(
            namespace=self._client.namespace, schedule_id=schedule_id, identity=self._client.identity
        )
        try:
            await self._bounded(self._service.delete_schedule, request, call)
        except NotThere:
            return

    async def check(self, call: Call) -> None:
        """See that the server answers and has the namespace.

        Raises:
            StoreFailure: what is in the way.
        """
        request = DescribeNamespaceRequest(namespace=self._client.namespace)
        await self._bounded(self._service.describe_namespace, request, call, reads=True)

    async def _describe(self, schedule_id: str, call: Call) -> DescribeScheduleResponse | None:
        request = DescribeScheduleRequest(namespace=self._client.namespace, schedule_id=schedule_id)
        try:
            found: DescribeScheduleResponse = await self._bounded(
                self._service.describe_schedule, request, call, reads=True
            )
        except NotThere:
            return None
        return found

    async def _bounded(
        self, send: Callable[..., Awaitable[Any]], request: Any, call: Call, *, reads: bool = False
    ) -> Any:
        """Send one request within the call's deadline, and put a failure in the words of the flow."""
        seconds = call.budget(STORE)
        try:
            # The service's own time-out doesn't cover the making of a connection.
            async with asyncio.timeout(seconds):
                await reach("temporal.before")
                with calling(STORE, method_of(request), call.metadata) as headers:
                    answer = await send(
                        request, retry=False, metadata=dict(headers), timeout=timedelta(seconds=seconds)
                    )
                await reach("temporal.after")
                return answer
        except Exception as error:
            match classify(error, reads=reads, api_key=self._client.api_key or ""):
                case Taken(message=message):
                    raise AlreadyTaken(message) from None
                case Absent(message=message):
                    raise NotThere(message) from None
                case failure:
                    raise StoreFailure(failure) from error


async def _built(building: Awaitable[T]) -> T:
    try:
        return await building
    except Exception as error:
        # The platform's converter is code we don't know, and may want a service of its own: nothing was
        # sent, but neither is it the schedule's fault. The step is tried again, and parks in the end.
        message = f"{STORE}: the request could not be built: {type(error).__name__}: {error}"
        raise StoreFailure(Unknown(ErrorCode.UNEXPECTED, " ".join(message.split())[:500])) from error


def _tls(cert: Path | None, key: Path | None, authorities: Path | None) -> TLSConfig | None:
    if (cert is None) != (key is None):
        raise ValueError("a TLS certificate and its key go together")
    if cert is None and authorities is None:
        return None
    return TLSConfig(
        server_root_ca_cert=authorities.read_bytes() if authorities else None,
        client_cert=cert.read_bytes() if cert else None,
        client_private_key=key.read_bytes() if key else None,
    )
