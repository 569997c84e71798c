"""Two Postgres servers, one the synchronous standby of the other, which take over from each other."""

import shutil
import time
from pathlib import Path
from typing import Any, Self

import psycopg

from outbox.stack import Stack
from outbox.stack.guard import Guard
from outbox.stack.ports import pick
from outbox.stack.postgres import database_url, run_program
from outbox.stack.state import State

_FOLLOW_SECONDS = 240.0
_POLL_SECONDS = 0.05


class Pair:
    """A primary, and a server that can follow it; as a context manager the second is down after.

    Attributes:
        primary: the stack whose Postgres takes writes.
        standby: the stack of the other, of which nothing else runs.
        url: libpq's, which leads to whichever takes writes.
    """

    def __init__(self, first: Stack, second: Path) -> None:
        """Pair a stack whose Postgres runs with a second server, whose data is to be in a folder."""
        known = State.load(first.home)
        self.primary, self.standby = first, Stack(second)
        self._guard = Guard(self.standby.home)
        self.standby.home.mkdir(mode=0o700)
        port = pick(set(known.ports.values()))
        State(known.password, known.token, {"postgres": port}).save(self.standby.home)
        here, name = database_url(known).rsplit("/", 1)
        self.url = f"{here},127.0.0.1:{port}/{name}?target_session_attrs=read-write"

    def follow(self) -> None:
        """Make the standby anew as a copy of the primary that follows it; commits wait for it from now on."""
        self.standby.kill("postgres")
        data = self.standby.home / "postgres"
        shutil.rmtree(data, ignore_errors=True)
        # The copy has these, too. It asks for more at once, and no power cut is tested.
        for name, value in (("wal_retrieve_retry_interval", "100ms"), ("fsync", "off")):
            self.configure(name, value)
        source = database_url(State.load(self.primary.home))
        copied = run_program(
            *("pg_basebackup", "-d", source, "-D", str(data), "-R", "--checkpoint=fast", "--no-sync")
        )
        assert copied.returncode == 0, copied.stderr
        self.configure("synchronous_standby_names", "*")
        self.standby.start("postgres")
        deadline = time.monotonic() + _FOLLOW_SECONDS
        while not self.ask("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
            assert time.monotonic() < deadline, "the standby doesn't follow"
            time.sleep(_POLL_SECONDS)

    def fall_behind(self) -> None:
        """Let the standby hear no more of the primary, whose commits wait for it no longer."""
        self.configure("synchronous_standby_names", "")
        self.configure("primary_conninfo", "", of=self.standby)
        while self.ask("SELECT 1 FROM pg_stat_replication"):
            time.sleep(_POLL_SECONDS)

    def promote(self) -> None:
        """Let the standby take over, whatever has become of the primary; the two change places."""
        self.primary, self.standby = self.standby, self.primary
        self.ask("SELECT pg_promote()")

    def kill(self) -> None:
        """End the primary by SIGKILL."""
        self.primary.kill("postgres")

    def demote(self) -> None:
        """Let the primary take no more writes; its connections stay open."""
        self.configure("default_transaction_read_only", "on")

    def configure(self, name: str, value: str, of: Stack | None = None) -> None:
        """Set something of the primary's (or of the other's), for all its sessions."""
        self.ask(f"ALTER SYSTEM SET {name} = '{value}'", of)
        self.ask("SELECT pg_reload_conf()", of)

    def ask(self, statement: str, of: Stack | None = None) -> list[tuple[Any, ...]]:
        """Ask the primary, whichever of the two it is, or the other."""
        url = database_url(State.load((of or self.primary).home))
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def __enter__(self) -> Self:
        self._guard.arm()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for stack in (self.primary, self.standby):
                stack.stop("postgres")
        finally:
            self._guard.disarm()
