"""Commands run in this process, against the stack, with the environment that a user would set."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from outbox.cli import running
from outbox.cli.main import app
from outbox.documentation import SITE
from outbox.stack import StackInfo


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> str:
        """The one line of an error; all else that is said is where it leads."""
        assert self.help
        return self.err.splitlines()[0]

    @property
    def help(self) -> str:
        """Where an error leads; nothing else is said but its one line."""
        _, link = self.err.splitlines()
        assert link.startswith(f"help: {SITE}docs/")
        return link.removeprefix(f"help: {SITE}docs/")


Cli = Callable[..., Ran]


@pytest.fixture
def silence() -> Iterator[socket.socket]:
    """A store that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(240)
        yield server


@pytest.fixture
def environment(stack: StackInfo, database: str, spicedb_schema: None) -> dict[str, str]:
    del spicedb_schema
    return stack.environment() | {
        "OUTBOX_DATABASE_URL": database,
        "OUTBOX_LATE_WRITE_SECONDS": "1",
        "OUTBOX_STEP_TIMEOUT_SECONDS": "2",
        "OUTBOX_LEASE_SECONDS": "3",
        "OUTBOX_POLL_INTERVAL_SECONDS": "0.05",
    }


@pytest.fixture
def cli(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run a command as a user of the stack would; keywords change the environment (None: unset)."""
    for name in [name for name in os.environ if name.startswith("OUTBOX_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for console in (running.out, running.err):
        monkeypatch.setattr(console, "width", 200)

    def run(*arguments: object, stdin: str | None = None, **changes: str | None) -> Ran:
        env = {**environment, **changes}
        result = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin, env=env)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run
