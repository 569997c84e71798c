"""What every call to a store carries: its deadline and its metadata, and what became of it when it failed.

Keeps rules 4 (each call is bounded by the dispatch's one deadline) and 8 (each answer is one outcome)
where both stores need the same.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self, TypeVar

from outbox import clock
from outbox.current import TRACE_HEADERS
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Failure, Misconfigured, Refused, Transient, Unknown

ACCOUNT_HEADER = "x-account-id"
MESSAGE_LIMIT = 500

_READS = 3
_PAUSE_SECONDS = 1.0
_PASSING = frozenset({ErrorCode.TIMED_OUT, ErrorCode.CONNECTION_LOST, ErrorCode.OVERLOADED})

T = TypeVar("T")

_BEARER = re.compile(r"(?i)\bbearer\s+\S+")


class StoreFailure(Exception):  # noqa: N818 - named for what the store did
    """A call that did not go through, with the outcome that it means for the step."""

    def __init__(self, outcome: Failure) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Call:
    """What the calls of one attempt share.

    Attributes:
        deadline: on the clock of ``outbox.clock``, in seconds.
        metadata: gRPC metadata for each of them.
    """

    deadline: float
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, dispatch: Dispatch) -> Self:
        """Take over a dispatch's deadline, and its trace in what of it can travel as metadata."""
        trace = {key.lower(): value for key, value in dispatch.trace.items()}
        headers = {key: trace[key] for key in TRACE_HEADERS if key in trace}
        # A trace is there to help: one that gRPC would choke on must not cost the step.
        return cls(dispatch.deadline, {k: v for k, v in headers.items() if v.isascii() and v.isprintable()})

    @classmethod
    def within(cls, seconds: float) -> Self:
        """Begin a call outside any dispatch, for a command or a probe."""
        return cls(clock.monotonic() + seconds)

    def with_header(self, name: str, value: str) -> Self:
        """Add one header to the metadata."""
        return replace(self, metadata={**self.metadata, name: value})

    def budget(self, store: str) -> float:
        """Seconds that a call may take from now.

        Raises:
            StoreFailure: there are none left, and nothing is sent.
        """
        seconds = self.deadline - clock.monotonic()
        if seconds <= 0:
            raise StoreFailure(
                Transient(ErrorCode.TIMED_OUT, f"{store}: the deadline passed before the call was sent")
            )
        return seconds


def method_of(request: object) -> str:
    """The method that a request is for: gRPC names the one after the other."""
    return type(request).__name__.removesuffix("Request")


async def read_patiently(read: Callable[[Call], Awaitable[T]], *, seconds: float) -> T:
    """Read; three times in all, where the store was too busy to answer or the connection was lost.

    Whoever compares all schedules makes thousands of reads, which one must not undo.

    Args:
        read: one call that changes nothing.
        seconds: how long each may take.

    Raises:
        StoreFailure: of the last one.
    """
    for _ in range(_READS - 1):
        try:
            return await read(Call.within(seconds))
        except StoreFailure as failure:
            if failure.outcome.code not in _PASSING:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)
    return await read(Call.within(seconds))


def one_line(store: str, text: str, *, secret: str = "", see: str | None = None) -> str:
    """Make a message of a store's text: one line, bounded, without the credential we sent.

    Args:
        store: whose text it is.
        text: what was said.
        secret: our credential.
        see: settings or a command to look at, told at the end.
    """
    if secret:
        text = text.replace(secret, "***")
    line = " ".join(_BEARER.sub("Bearer ***", text).split())
    hint = f" (see {see})" if see else ""
    return f"{store}: {line or 'no reason given'}"[: MESSAGE_LIMIT - len(hint)] + hint


def without_doubt(failure: Failure) -> Failure:
    """Take a failure as a read's: what changes nothing leaves nothing unknown behind."""
    return Transient(failure.code, failure.message) if isinstance(failure, Unknown) else failure


def in_doubt(failure: Failure) -> Unknown:
    """Take a failed look at what a write has done as that write's: its effect may well stand."""
    return Unknown(failure.code, failure.message)


def undecided(failure: Failure) -> Failure:
    """Take a failed look as one to be taken again: even a refusal to show says nothing of what is there."""
    return failure if isinstance(failure, Misconfigured) else Transient(failure.code, failure.message)


def cause_stands(dispatch: Dispatch, fallback: ErrorCode) -> Refused:
    """Say that nothing of ours was found, so that what stood against the intent stands."""
    if dispatch.cause is None:
        return Refused(fallback, "nothing of ours was found in the store")
    return Refused(dispatch.cause.code, dispatch.cause.message)
