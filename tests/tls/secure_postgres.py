"""A Postgres that speaks to nobody in the clear, and takes clients by certificate or by password.

It is of an older version: the stack's own is built without TLS.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest

from outbox.stack.postgres import _chown
from outbox.store.grants import GRANTS
from outbox.store.migrations import migrate
from tests.stack.folder import folder
from tests.stack.lazy import LazyStack
from tests.tls.credentials import Authority, Pair

PASSWORD = "not-a-secret"  # pragma: allowlist secret
BY_CERTIFICATE, BY_PASSWORD = "certified", "passworded"
_HBA = f"""
hostssl all {BY_CERTIFICATE} 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""


class SecurePostgres:
    """Its database is migrated; its two roles may do what producers and workers may."""

    def __init__(self, admin: str, data: Path, authority: Authority) -> None:
        self._admin = admin
        self._data = data
        self._authority = authority
        self._own = authority.issue(BY_CERTIFICATE, common_name=BY_CERTIFICATE)

    @classmethod
    @contextmanager
    def running(cls, authority: Authority) -> Iterator["SecurePostgres"]:
        with (
            folder() as home,
            pytest.MonkeyPatch.context() as patch,
            LazyStack(home) as stack,
        ):
            patch.setenv("OUTBOX_STACK_POSTGRES", "15")
            server = cls(stack.info.database_url, home / "postgres", authority)
            server.secure()
            stack.restart("postgres")
            patch.undo()
            migrate(server.url("postgres"), max_request_bytes=262_144)
            server.execute(GRANTS)
            server.execute(f"CREATE ROLE {BY_CERTIFICATE} LOGIN")
            server.execute(f"CREATE ROLE {BY_PASSWORD} LOGIN PASSWORD '{PASSWORD}'")
            server.execute(f"GRANT outbox_producer, outbox_worker TO {BY_CERTIFICATE}, {BY_PASSWORD}")
            yield server

    def secure(self) -> None:
        """Write its configuration, in force from its next start on."""
        self._install(self._authority.issue())
        shutil.copy(self._authority.file, self._data / "clients.pem")
        (self._data / "pg_hba.conf").write_text(_HBA)
        (self._data / "postgresql.auto.conf").write_text("ssl = on\nssl_ca_file = 'clients.pem'\n")
        for name in ("clients.pem", "pg_hba.conf", "postgresql.auto.conf"):
            _chown(self._data / name)

    def url(self, role: str, **parameters: str) -> str:
        """A role's URL: it is let in, and trusts this server alone; or what other parameters make of it."""
        credentials, _, place = self._admin.rpartition("@")
        if role == BY_PASSWORD:
            credentials = f"postgresql://{role}:{PASSWORD}"
        right = {"sslmode": "verify-full", "sslrootcert": str(self._authority.file)}
        if role == BY_CERTIFICATE:
            credentials = f"postgresql://{role}"
            right |= {"sslcert": str(self._own.certificate), "sslkey": str(self._own.key)}
        return f"{credentials}@{place}?{urlencode(right | parameters)}"

    def execute(self, statement: str) -> object:
        """Execute a statement as the owner, who trusts any certificate; return the first value, if any."""
        with psycopg.connect(f"{self._admin}?sslmode=require", autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
            return row and row[0]

    def show(self, pair: Pair) -> None:
        """Show another certificate to those who connect from now on."""
        before = self.execute("SELECT pg_conf_load_time()")
        self._install(pair)
        self.execute("SELECT pg_reload_conf()")
        # A new session tells when the server that it comes from has read its files.
        while self.execute("SELECT pg_conf_load_time()") == before:
            time.sleep(0.05)

    def cut_off(self) -> None:
        """End the sessions of both roles."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE usename IN ('{BY_CERTIFICATE}', '{BY_PASSWORD}')"
        )

    def _install(self, pair: Pair) -> None:
        for source, name in ((pair.certificate, "server.crt"), (pair.key, "server.key")):
            shutil.copy(source, self._data / name)
            _chown(self._data / name)
