"""What both stores' clients make of each fault of TLS: which outcome, and which setting they name."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from threading import Thread
from typing import Any

import pytest

from consumers.calls import Call, StoreFailure
from outbox.compose.clients import authz_client, temporal_client
from outbox.errors import ErrorCode
from outbox.flow.outcome import Failure
from outbox.settings import Settings
from outbox.stack import StackInfo
from outbox.testing import FaultProxy
from tests.pipeline.ledger import until
from tests.tls.credentials import HOST, Authority, Pair, ask_for_certificates, ask_for_key, server_context

MISCONFIGURED, UNREACHABLE, LOST = ErrorCode.MISCONFIGURED, ErrorCode.UNREACHABLE, ErrorCode.CONNECTION_LOST
PLACE = {"spicedb": "spicedb_endpoint", "temporal": "temporal_address"}
TEMPORAL_TLS = "OUTBOX_TEMPORAL_TLS_CA, _TLS_CERT, _API_KEY"
TEMPORAL_CREDENTIALS = "OUTBOX_TEMPORAL_API_KEY, _TLS_CERT"
Read = Callable[[], Awaitable[object]]


class Store:
    """One of the two real servers, and clients of it as the settings make them."""

    def __init__(self, name: str, stack: StackInfo) -> None:
        self.name = name
        self.target = str(getattr(stack, PLACE[name]))
        self._token = stack.spicedb_token if name == "spicedb" else None

    def trusting(self, trusted: Authority | None) -> dict[str, Any]:
        """Settings that turn TLS on; off, where nobody is trusted."""
        switch = {"spicedb_tls": trusted is not None} if self.name == "spicedb" else {}
        return {**switch, f"{self.name}_tls_ca": trusted and trusted.file}

    @asynccontextmanager
    async def asked(self, address: str, **settings: Any) -> AsyncIterator[Read]:
        """Inside, a client that asks the server something."""
        given = Settings.model_validate({PLACE[self.name]: address, "spicedb_token": self._token, **settings})
        if self.name == "temporal":
            temporal = await temporal_client(given)
            yield lambda: temporal.check(Call.within(20))
            return
        spicedb = authz_client(given)
        try:
            yield lambda: spicedb.read_schema(Call.within(20))
        finally:
            await spicedb.close()

    async def outcome(self, address: str, **settings: Any) -> Failure | None:
        """What a new client meets."""
        async with self.asked(address, **settings) as read:
            return await met(read)


async def met(read: Read) -> Failure | None:
    try:
        await read()
    except StoreFailure as failure:
        return failure.outcome
    return None


async def met_after_the_cut(read: Read) -> Failure | None:
    """The same, as soon as a client that was connected has noticed that it isn't any more."""
    async with asyncio.timeout(240):
        while (found := await met(read)) and found.code is LOST:
            pass
    return found


def assert_named(failure: Failure | None, code: ErrorCode, see: str) -> None:
    assert failure is not None
    assert failure.code is code, failure.message
    assert failure.message.endswith(f"(see {see})")


@pytest.fixture(params=list(PLACE))
def store(request: pytest.FixtureRequest, stack: StackInfo) -> Store:
    return Store(request.param, stack)


@pytest.fixture
def temporal_store(stack: StackInfo) -> Store:
    return Store("temporal", stack)


async def test_a_server_whose_authority_is_named_is_trusted(
    store: Store, authority: Authority, context: ssl.SSLContext
) -> None:
    async with FaultProxy(store.target, tls=context) as proxy:
        assert await store.outcome(proxy.address, **store.trusting(authority)) is None


# Each with what the server shows, and what SpiceDB's and Temporal's clients name.
@pytest.mark.parametrize(
    ("shown", "see"),
    [
        ({"expired": True}, {"spicedb": "OUTBOX_SPICEDB_TLS_CA", "temporal": "OUTBOX_TEMPORAL_TLS_CA"}),
        (
            {"name": "other.example"},
            {"spicedb": "OUTBOX_SPICEDB_ENDPOINT", "temporal": "OUTBOX_TEMPORAL_ADDRESS"},
        ),
    ],
    ids=["expired", "name"],
)
async def test_a_certificate_that_does_not_hold(
    store: Store, authority: Authority, shown: dict[str, Any], see: dict[str, str]
) -> None:
    async with FaultProxy(store.target, tls=server_context(authority.issue(**shown))) as proxy:
        failure = await store.outcome(proxy.address, **store.trusting(authority))
    assert_named(failure, MISCONFIGURED, see[store.name])


async def test_an_authority_that_is_not_trusted(
    store: Store, stranger: Authority, context: ssl.SSLContext
) -> None:
    async with FaultProxy(store.target, tls=context) as proxy:
        failure = await store.outcome(proxy.address, **store.trusting(stranger))
    assert_named(failure, MISCONFIGURED, f"OUTBOX_{store.name.upper()}_TLS_CA")


async def test_tls_spoken_to_a_server_in_the_clear(store: Store, authority: Authority) -> None:
    failure = await store.outcome(store.target, **store.trusting(authority))
    see = {"spicedb": "OUTBOX_SPICEDB_TLS", "temporal": TEMPORAL_TLS}
    assert_named(failure, MISCONFIGURED, see[store.name])


async def test_a_server_of_tls_spoken_to_in_the_clear(store: Store, context: ssl.SSLContext) -> None:
    async with FaultProxy(store.target, tls=context) as proxy:
        failure = await store.outcome(proxy.address, **store.trusting(None))
    see = {"spicedb": "OUTBOX_SPICEDB_TLS", "temporal": TEMPORAL_TLS}
    assert_named(failure, UNREACHABLE, see[store.name])


async def test_a_server_of_tls_that_speaks_no_http_2(store: Store, authority: Authority) -> None:
    context = server_context(authority.issue())
    context.set_alpn_protocols(["http/1.1"])
    async with FaultProxy(store.target, tls=context) as proxy:
        failure = await store.outcome(proxy.address, **store.trusting(authority))
    assert_named(failure, MISCONFIGURED, f"OUTBOX_{PLACE[store.name].upper()}")


@pytest.mark.parametrize("fault", ["expired", "name", "authority"])
async def test_what_goes_wrong_while_a_client_is_connected_is_named_and_mended(
    store: Store, authority: Authority, stranger: Authority, context: ssl.SSLContext, *, fault: str
) -> None:
    wrong: dict[str, Callable[[], Pair]] = {
        "expired": lambda: authority.issue(expired=True),
        "name": lambda: authority.issue("other.example"),
        "authority": stranger.issue,
    }
    async with (
        FaultProxy(store.target, tls=context) as proxy,
        store.asked(proxy.address, **store.trusting(authority)) as read,
    ):
        assert await met(read) is None
        context.load_cert_chain(*wrong[fault]())
        proxy.cut_connections()
        see = PLACE[store.name] if fault == "name" else f"{store.name}_tls_ca"
        assert_named(await met_after_the_cut(read), MISCONFIGURED, f"OUTBOX_{see.upper()}")

        context.load_cert_chain(*authority.issue())
        proxy.cut_connections()

        async def answered() -> bool:
            return await met(read) is None

        await until("an answer", answered)


# Certificates of clients, which Temporal may ask for.


async def test_temporal_takes_a_client_by_its_certificate(
    temporal_store: Store, authority: Authority, context: ssl.SSLContext
) -> None:
    ask_for_certificates(context, authority)
    certificate, key = authority.issue()
    async with FaultProxy(temporal_store.target, tls=context) as proxy:
        pair = {"temporal_tls_cert": certificate, "temporal_tls_key": key}
        assert (
            await temporal_store.outcome(proxy.address, **temporal_store.trusting(authority), **pair) is None
        )
        without = await temporal_store.outcome(proxy.address, **temporal_store.trusting(authority))
        # This server says nothing and hangs up, as many a load balancer does.
        assert_named(without, UNREACHABLE, TEMPORAL_TLS)


@pytest.mark.parametrize("shown", ["none", "expired", "stranger"])
async def test_a_server_that_says_why_it_refuses_a_client(
    temporal_store: Store, authority: Authority, stranger: Authority, context: ssl.SSLContext, *, shown: str
) -> None:
    ask_for_certificates(context, authority)
    # The older version of TLS: of the newer one, the client may meet the closed connection first.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    pairs = {"none": None, "expired": authority.issue(expired=True), "stranger": stranger.issue()}
    with refusing(context) as address:
        failure = await temporal_store.outcome(
            address, **temporal_store.trusting(authority), **shown_by_clients(pairs[shown])
        )
    assert_named(failure, MISCONFIGURED, "OUTBOX_TEMPORAL_TLS_CERT")


def shown_by_clients(pair: Pair | None) -> dict[str, Any]:
    return {"temporal_tls_cert": pair.certificate, "temporal_tls_key": pair.key} if pair else {}


@contextmanager
def refusing(context: ssl.SSLContext) -> Iterator[str]:
    """The address of a server that shakes hands, and tells those whom it refuses why."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    with connection, suppress(OSError):
                        context.wrap_socket(connection, server_side=True).close()

        thread = Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"{HOST}:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    thread.join()


# API keys.


async def test_temporal_takes_a_client_by_its_api_key(
    temporal_store: Store, authority: Authority, context: ssl.SSLContext
) -> None:
    async with FaultProxy(temporal_store.target, tls=context) as proxy:
        ask_for_key(proxy, "right-key")
        tls = temporal_store.trusting(authority)
        assert await temporal_store.outcome(proxy.address, **tls, temporal_api_key="right-key") is None
        failure = await temporal_store.outcome(proxy.address, **tls, temporal_api_key="wrong-key")
        assert_named(failure, MISCONFIGURED, TEMPORAL_CREDENTIALS)
        assert "wrong-key" not in str(failure)
        # The key alone turns TLS on, too, and trusts whom the system trusts.
        failure = await temporal_store.outcome(proxy.address, temporal_api_key="right-key")
        assert_named(failure, MISCONFIGURED, "OUTBOX_TEMPORAL_TLS_CA")
