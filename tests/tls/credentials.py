"""Certificates made for a test, and servers that show them, or ask for them or for keys."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import grpc
import trustme

from outbox.testing import FaultProxy

HOST = "127.0.0.1"
_TEMPORAL_METHODS = (
    "GetSystemInfo",
    "DescribeNamespace",
    "DescribeSchedule",
    "CreateSchedule",
    "DeleteSchedule",
)


class Pair(NamedTuple):
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Vouches for certificates.

    Attributes:
        file: its own certificate, for those who are to trust it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)
        self._issued = 0

    @classmethod
    @contextmanager
    def founded(cls) -> Iterator["Authority"]:
        """An authority with a folder of its own."""
        with TemporaryDirectory(prefix="tls-") as folder:
            yield cls(Path(folder))

    def issue(self, name: str = HOST, *, common_name: str | None = None, expired: bool = False) -> Pair:
        """Issue a certificate for a name, which has run out yesterday if it is to be expired."""
        now = datetime.now(UTC)
        since, until = (now - timedelta(days=2), now + timedelta(days=-1 if expired else 1))
        leaf = self._ca.issue_cert(name, common_name=common_name, not_before=since, not_after=until)
        self._issued += 1
        pair = Pair(self._folder / f"{self._issued}.pem", self._folder / f"{self._issued}.key")
        leaf.cert_chain_pems[0].write_to_path(pair.certificate)
        # libpq takes no key that others may read.
        pair.key.touch(mode=0o600)
        leaf.private_key_pem.write_to_path(pair.key)
        return pair


def server_context(shows: Pair) -> ssl.SSLContext:
    """What a gRPC server has. Without tickets, so that clients look at the certificate at each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*shows)
    context.set_alpn_protocols(["h2"])
    context.num_tickets = 0
    return context


def ask_for_certificates(context: ssl.SSLContext, trusted: Authority) -> None:
    """From here on, clients must show a certificate of this authority."""
    context.load_verify_locations(trusted.file)
    context.verify_mode = ssl.CERT_REQUIRED


def ask_for_key(proxy: FaultProxy, key: str) -> None:
    """From here on, calls to Temporal with another API key are refused, as its last hop refuses them."""
    wanted = ("authorization", f"Bearer {key}")
    proxy.clear()
    for method in _TEMPORAL_METHODS:
        proxy.fail(
            method,
            status=grpc.StatusCode.UNAUTHENTICATED,
            details="Request unauthorized.",
            when=lambda call: wanted not in call.metadata,
            times=None,
        )
