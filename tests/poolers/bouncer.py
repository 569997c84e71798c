"""A PgBouncer in front of a test's Postgres, pooling transactions over as few sessions as the test says."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from outbox.stack.ports import pick
from outbox.store.url import parameters
from tests.debian import library_path, unpacked

_CONFIGURATION = """
[databases]
* = host={host} port={port} user={user} password={password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
"""
# It refuses to serve as root, and becomes somebody else once it has read this.
_AS_NOBODY = "user = nobody\n"


class Bouncer:
    """A PgBouncer; as a context manager it runs inside.

    Attributes:
        url: of the database, through it.

    Raises:
        NotToBeHadError: there is none.
    """

    def __init__(self, database: str, *, sessions: int) -> None:
        self._command, self._environment = pgbouncer()
        self._port = pick(set())
        self._text = _CONFIGURATION.format(**parameters(database), own_port=self._port, sessions=sessions)
        self._around = ExitStack()
        self._home: Path
        self._process: subprocess.Popen[bytes]
        self.url = urlsplit(database)._replace(netloc=f"anybody@127.0.0.1:{self._port}").geturl()

    def start(self) -> None:
        """Start it, on the port that it has."""
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._command, str(self._home / "pgbouncer.ini")],
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            _wait(self._process, self._port, self._home / "log")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it at once, by SIGTERM: what is under way through it is cut off."""
        self._process.terminate()
        self._process.wait()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        home = self._around.enter_context(tempfile.TemporaryDirectory(prefix="outbox-pooler-"))
        self._home = Path(home)
        as_somebody = _AS_NOBODY if os.geteuid() == 0 else ""
        (self._home / "pgbouncer.ini").write_text(self._text + as_somebody)
        try:
            self.start()
        except BaseException:
            self._around.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._around.close()


@contextmanager
def pooled(database: str, *, sessions: int) -> Iterator[str]:
    """The URL of the same database through the pooler."""
    with Bouncer(database, sessions=sessions) as bouncer:
        yield bouncer.url


def pgbouncer() -> tuple[str, dict[str, str]]:
    """The program, and what its environment needs.

    Raises:
        NotToBeHadError: there is none.
    """
    if installed := shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return installed, {}
    root = unpacked("pgbouncer")
    return str(root / "usr/sbin/pgbouncer"), library_path(root)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"PgBouncer did not start: {log.read_text()}")
