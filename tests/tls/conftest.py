"""Authorities, and the real stores behind proxies that speak TLS."""

import ssl
from collections.abc import AsyncIterator, Iterator

import pytest

from outbox.stack import StackInfo
from outbox.testing import FaultProxy
from tests.pipeline.conftest import pipeline, stores
from tests.tls.credentials import Authority, server_context

__all__ = ["pipeline", "stores"]


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """The one that clients are told to trust."""
    with Authority.founded() as founded:
        yield founded


@pytest.fixture(scope="session")
def stranger() -> Iterator[Authority]:
    """One that nobody trusts."""
    with Authority.founded() as founded:
        yield founded


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    """How a server speaks TLS: SpiceDB, where there are two."""
    return server_context(authority.issue())


@pytest.fixture
def temporal_context(authority: Authority) -> ssl.SSLContext:
    """How Temporal does, where there are two."""
    return server_context(authority.issue())


@pytest.fixture
async def spicedb(stack: StackInfo, context: ssl.SSLContext) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(stack.spicedb_endpoint, tls=context) as proxy:
        yield proxy


@pytest.fixture
async def temporal(stack: StackInfo, temporal_context: ssl.SSLContext) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(stack.temporal_address, tls=temporal_context) as proxy:
        yield proxy


@pytest.fixture
def wire() -> str:
    return "direct"
