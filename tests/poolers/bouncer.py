"""A PgBouncer in front of a test's Postgres, pooling transactions over as few sessions as the test says."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


@contextmanager
def pooled(database: str, *, sessions: int) -> Iterator[str]:
    """The URL of the same database through the pooler."""
    command, environment = pgbouncer()
    server = parameters(database)
    own_port = pick(set())
    with tempfile.TemporaryDirectory(prefix="outbox-pooler-") as home:
        configuration = Path(home) / "pgbouncer.ini"
        text = _CONFIGURATION.format(**server, own_port=own_port, sessions=sessions)
        configuration.write_text(text + (_AS_NOBODY if os.geteuid() == 0 else ""))
        log = (Path(home) / "log").open("wb")
        process = subprocess.Popen(
            [command, str(configuration)],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait(process, own_port, Path(log.name))
            yield urlsplit(database)._replace(netloc=f"anybody@127.0.0.1:{own_port}").geturl()
        finally:
            process.kill()
            process.wait()
            log.close()


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
