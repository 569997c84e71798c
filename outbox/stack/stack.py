"""The embedded stack: Postgres, SpiceDB, Temporal and, if asked for, Kafka, with their data in one folder."""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, Self

import psutil  # type: ignore[import-untyped]

from outbox.stack import ports, processes
from outbox.stack.component import Component
from outbox.stack.errors import StackError
from outbox.stack.guard import Guard
from outbox.stack.kafka import Broker, Kafka
from outbox.stack.postgres import Postgres, database_url
from outbox.stack.spicedb import SpiceDB
from outbox.stack.state import State
from outbox.stack.temporal import NAMESPACE, Temporal

Name = Literal["postgres", "spicedb", "temporal", "kafka"]
Progress = Callable[[str, str], None]
"""Called with a component's title and what it is at; from several threads."""

COMPONENTS: dict[str, Component] = {
    "postgres": Postgres(),
    "spicedb": SpiceDB(),
    "temporal": Temporal(),
    "kafka": Kafka(),
}
# A server whose process lives is still starting; on a busy machine a broker took 50 s.
_START_SECONDS = 180.0
_STOP_SECONDS = 15.0
_LOCK_SECONDS = 240.0
_POLL_SECONDS = 0.05
_BIND_ATTEMPTS = 3


@dataclass(frozen=True)
class StackInfo:
    """Where a running stack's servers are."""

    database_url: str
    spicedb_endpoint: str
    spicedb_token: str
    temporal_address: str
    kafka_bootstrap: str | None = None

    def environment(self) -> dict[str, str]:
        """The settings that point at this stack, by the names of their environment variables."""
        return {
            "OUTBOX_DATABASE_URL": self.database_url,
            "OUTBOX_SPICEDB_ENDPOINT": self.spicedb_endpoint,
            "OUTBOX_SPICEDB_TOKEN": self.spicedb_token,
            "OUTBOX_SPICEDB_TLS": "false",
            "OUTBOX_TEMPORAL_ADDRESS": self.temporal_address,
            "OUTBOX_TEMPORAL_NAMESPACE": NAMESPACE,
        } | ({"OUTBOX_KAFKA_BOOTSTRAP": self.kafka_bootstrap} if self.kafka_bootstrap else {})


def default_home() -> Path:
    """`$OUTBOX_HOME`, or else `.outbox` in the working directory."""
    return Path(os.environ.get("OUTBOX_HOME") or ".outbox")


class Stack:
    """The stack whose data is in `home`; any number of them run side by side, each in its own.

    Calls from several processes take turns. What the servers hold survives `down`, `stop` and `kill`. As a
    context manager (for tests) it is up inside and down after, even if this process is killed.
    """

    def __init__(self, home: Path | None = None, *, progress: Progress | None = None) -> None:
        self.home = (home or default_home()).resolve()
        self._progress: Progress = progress or (lambda *_: None)
        self._guard = Guard(self.home)
        self._assigning = threading.Lock()

    def up(self, *, kafka: Broker | None = None) -> StackInfo:
        """Start what isn't running, wait until all answer, and say where they are.

        Args:
            kafka: a broker to start besides; without one, a broker that runs is left running.

        Raises:
            StackError: a server can't be started or doesn't answer; what this call started is stopped again.
        """
        with self._locked():
            state = State.load(self.home)
            running = self._running()
            if not running["kafka"]:
                state.broker = kafka or ""
            wanted = [one for one in COMPONENTS.values() if state.broker or one.name != "kafka"]
            self._bring_up(wanted, running, state)
            return locate(state)

    def down(self) -> None:
        """Stop all servers in order; no process of the stack is left."""
        if self.home.exists():
            with self._locked():
                members = processes.families(chain.from_iterable(self._running().values()))
                self._end(list(COMPONENTS))
            processes.wait_reaped(members)

    def info(self) -> StackInfo | None:
        """Where the servers are, if any of them runs: the others can be started again where they were."""
        return locate(State.load(self.home)) if any(self.status().values()) else None

    def status(self) -> dict[str, int | None]:
        """The process id of each server by its name; None where it isn't running."""
        return {name: found[0].pid if found else None for name, found in self._running().items()}

    def start(self, name: Name) -> None:
        """Start one server again, on the port and data that it had, and wait until it answers."""
        with self._locked():
            component, state = COMPONENTS[name], State.load(self.home)
            port = state.ports.get(component.port_names[0])
            if port is None:
                raise StackError(f"{component.title} has never run in {self.home}: run `outbox up` first")
            if self._running()[name]:
                self._keep(component, state)
                return
            if ports.occupied([port]):
                raise StackError(
                    f"{component.title}'s port {port} has been taken by another process: "
                    "end that one, or run `outbox down` and `outbox up` for a new port"
                )
            self._assign_ports([component], state)
            self._launch(component, state)
            self._await(component, state)

    def stop(self, name: Name) -> None:
        """Stop one server in order; its clients lose their connections."""
        with self._locked():
            self._end([name])

    def kill(self, name: Name) -> None:
        """Kill one server with SIGKILL."""
        with self._locked():
            processes.end(self._running()[name], signal.SIGKILL, timeout_seconds=_STOP_SECONDS)

    def pause(self, name: Name) -> None:
        """Freeze one server: its connections stay open and nothing answers."""
        processes.send(processes.families(self._running()[name]), signal.SIGSTOP)

    def resume(self, name: Name) -> None:
        """Let a paused server go on."""
        processes.send(processes.families(self._running()[name]), signal.SIGCONT)

    def __enter__(self) -> Self:
        self._guard.arm()
        try:
            self.up()
        except BaseException:
            self._guard.disarm()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.down()
        finally:
            self._guard.disarm()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + _LOCK_SECONDS
        with (self.home / "lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StackError(
                            f"Another command has been busy with {self.home} for too long: end it"
                        ) from None
                    self._progress("Stack", "waiting for another command")
                    time.sleep(0.2)
            yield

    def _running(self) -> dict[str, list[psutil.Process]]:
        found: dict[str, list[psutil.Process]] = {name: [] for name in COMPONENTS}
        for process, line in processes.command_lines():
            for name, component in COMPONENTS.items():
                if component.matches(self.home, line):
                    found[name].append(process)
        return found

    def _bring_up(
        self, wanted: Sequence[Component], running: Mapping[str, list[psutil.Process]], state: State
    ) -> None:
        """Start those that aren't running, side by side, and wait until all of them answer."""
        missing = [component for component in wanted if not running[component.name]]
        self._assign_ports(missing, state)
        with ThreadPoolExecutor() as pool:
            begun = [
                pool.submit(self._start if component in missing else self._keep, component, state)
                for component in wanted
            ]
        failures = [error for error in (future.exception() for future in begun) if error]
        if failures:
            self._end([component.name for component in missing])
            raise failures[0]

    def _assign_ports(self, components: list[Component], state: State) -> None:
        """Keep a port that can be had, else choose another; written down before a server listens there."""
        names = [name for component in components for name in component.port_names]
        with self._assigning:
            taken = ports.occupied([state.ports[name] for name in names if name in state.ports])
            for name in names:
                if state.ports.get(name) in {None, *taken}:
                    state.ports[name] = ports.pick(set(state.ports.values()))
            state.save(self.home)

    def _keep(self, component: Component, state: State) -> None:
        """Wait until one that runs answers; start one again that was about to end as it was looked for."""
        try:
            self._await(component, state)
        except StackError:
            if self._running()[component.name]:
                raise
            self._start(component, state)

    def _start(self, component: Component, state: State) -> None:
        """Start a server; where another process was quicker to take a port that was free, on another one."""
        for left in reversed(range(_BIND_ATTEMPTS)):
            self._launch(component, state)
            try:
                return self._await(component, state)
            except StackError:
                theirs = ports.occupied([state.ports[name] for name in component.port_names])
                if not (left and theirs) or self._running()[component.name]:
                    raise
            self._assign_ports([component], state)
        raise AssertionError("the last attempt returns or raises")

    def _launch(self, component: Component, state: State) -> None:
        component.prepare(self.home, state, lambda phase: self._progress(component.title, phase))
        self._progress(component.title, "starting")
        log = self.home / f"{component.name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.old"))
        command = component.command(self.home, state)
        folder = self.home / component.name
        processes.start(command.argv, identity=command.identity, log=log, cwd=folder, env=command.env)

    def _await(self, component: Component, state: State) -> None:
        """Wait until the component answers, for as long as its process runs."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            failure = component.failure(state)
            # Also where something answers: another server may have been quicker to take the port.
            if not self._running()[component.name]:
                raise self._error(component, "ended while starting")
            if failure is None:
                break
            if time.monotonic() > deadline:
                raise self._error(component, f"doesn't answer after {_START_SECONDS:.0f} s ({failure})")
            time.sleep(_POLL_SECONDS)
        self._progress(component.title, "ready")

    def _error(self, component: Component, what: str) -> StackError:
        log = self.home / f"{component.name}.log"
        tail = processes.log_tail(log)
        lines = tail.splitlines()
        # Postgres says why, and then that it ends.
        telling = [line for line in lines if "FATAL" in line or "PANIC" in line] or lines
        last = f": {telling[-1]}" if telling else ""
        return StackError(f"{component.title} {what}{last} (see {log})", log=tail)

    def _end(self, names: list[str]) -> None:
        """Stop servers side by side."""
        running = self._running()

        def stop(name: str) -> None:
            if running[name]:
                self._progress(COMPONENTS[name].title, "stopping")
                processes.end(running[name], COMPONENTS[name].stop_signal, timeout_seconds=_STOP_SECONDS)
                self._progress(COMPONENTS[name].title, "stopped")

        with ThreadPoolExecutor() as pool:
            list(pool.map(stop, names))


def locate(state: State) -> StackInfo:
    """Where the servers of a stack with these ports and secrets are."""
    return StackInfo(
        database_url=database_url(state),
        spicedb_endpoint=f"127.0.0.1:{state.ports['spicedb']}",
        spicedb_token=state.token,
        temporal_address=f"127.0.0.1:{state.ports['temporal']}",
        kafka_bootstrap=f"127.0.0.1:{state.ports['kafka']}" if state.broker else None,
    )
