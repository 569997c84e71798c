"""The stack from official images, for machines where a Docker engine answers.

Unverified: no engine runs on the machines on which this was built, where only `engine_answers` has ever run.
It differs from the embedded stack in one way: SpiceDB's memory is gone when its container restarts.
"""

import os
import time
from pathlib import Path
from typing import Self

import docker  # type: ignore[import-untyped]
from docker.errors import DockerException  # type: ignore[import-untyped]
from testcontainers.core.container import DockerContainer

from outbox.stack import StackError, StackInfo
from outbox.stack.ports import pick
from outbox.stack.stack import COMPONENTS, Name, locate
from outbox.stack.state import State

_START_SECONDS = 240.0
_POLL_SECONDS = 0.2


def engine_answers() -> bool:
    """Whether containers can be started here."""
    # Where nothing listens the client leaves its socket to the garbage collector, a warning in each test.
    if "DOCKER_HOST" not in os.environ and not Path("/var/run/docker.sock").exists():
        return False
    try:
        client = docker.from_env()
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except DockerException:
        return False
    finally:
        client.close()


class ContainerStack:
    """Postgres, SpiceDB and Temporal in containers, with the embedded stack's interface to cause outages."""

    def __init__(self) -> None:
        self._state = State.new()
        taken: set[int] = set()
        for name in COMPONENTS:
            # A fixed port: one that Docker chooses would change when a container starts again.
            self._state.ports[name] = pick(taken)
            taken.add(self._state.ports[name])
        self._containers: dict[str, DockerContainer] = {
            "postgres": self._container("postgres", "postgres:18", 5432)
            .with_env("POSTGRES_USER", "postgres")
            .with_env("POSTGRES_DB", "outbox")
            .with_env("POSTGRES_PASSWORD", self._state.password)
            .with_command("postgres -c max_connections=200"),
            "spicedb": self._container("spicedb", "authzed/spicedb:latest", 50051).with_command(
                f"serve --grpc-preshared-key {self._state.token}"
            ),
            "temporal": self._container("temporal", "temporalio/temporal:latest", 7233).with_command(
                "server start-dev --headless --ip 0.0.0.0 --db-filename /tmp/temporal.db"
            ),
        }

    def up(self) -> StackInfo:
        """Start all three and wait until they answer."""
        for container in self._containers.values():
            container.start()
        for name in self._containers:
            self._await(name)
        return self.info()

    def down(self) -> None:
        """Remove the containers and their data."""
        for container in self._containers.values():
            container.stop()

    def info(self) -> StackInfo:
        """Where the servers are."""
        return locate(self._state)

    def start(self, name: Name) -> None:
        """Start one server again, on the port and data that it had (SpiceDB: empty)."""
        self._containers[name].get_wrapped_container().start()
        self._await(name)

    def stop(self, name: Name) -> None:
        """Stop one server in order."""
        self._containers[name].get_wrapped_container().stop()

    def kill(self, name: Name) -> None:
        """Kill one server with SIGKILL."""
        self._containers[name].get_wrapped_container().kill()

    def pause(self, name: Name) -> None:
        """Freeze one server."""
        self._containers[name].get_wrapped_container().pause()

    def resume(self, name: Name) -> None:
        """Let a paused server go on."""
        self._containers[name].get_wrapped_container().unpause()

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def _container(self, name: str, image: str, port: int) -> DockerContainer:
        return DockerContainer(image).with_bind_ports(port, self._state.ports[name])

    def _await(self, name: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while (failure := COMPONENTS[name].failure(self._state)) is not None:
            if time.monotonic() > deadline:
                raise StackError(f"{COMPONENTS[name].title}'s container doesn't answer: {failure}")
            time.sleep(_POLL_SECONDS)
