"""The broker behind a relay: clients are told the relay's address, so that all they send goes there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from outbox.stack import Stack
from outbox.stack.component import Command
from outbox.stack.kafka import Kafka
from outbox.stack.ports import pick
from outbox.stack.stack import COMPONENTS
from outbox.stack.state import State
from outbox.testing.relay import Relay
from tests.kafka.brokers import broker


class _BehindARelay(Kafka):
    """A broker that names another port than its own to clients."""

    def __init__(self, told: int) -> None:
        self._told = told

    def prepare(self, home: Path, state: State, tell: Callable[[str], None]) -> None:
        """Have Apache Kafka's configuration tell clients the other one."""
        super().prepare(home, state, tell)
        if state.broker != "apache":
            return
        file = home / self.name / "server.properties"
        own = f"advertised.listeners=PLAINTEXT://127.0.0.1:{state.ports['kafka']}\n"
        written = file.read_text()
        assert own in written
        file.write_text(written.replace(own, f"advertised.listeners=PLAINTEXT://127.0.0.1:{self._told}\n"))

    def command(self, home: Path, state: State) -> Command:
        """The same of tansu, which takes it as an option."""
        usual = super().command(home, state)
        argv = list(usual.argv)
        if state.broker != "apache":
            argv[argv.index("--advertised-listener-url") + 1] = f"tcp://127.0.0.1:{self._told}"
        return replace(usual, argv=argv)


@asynccontextmanager
async def linked_broker(stack: Stack) -> AsyncIterator[Relay]:
    """Inside, the stack's broker runs behind a relay."""
    state = State.load(stack.home)
    state.ports["kafka"] = pick(set(state.ports.values()))
    state.save(stack.home)
    async with Relay(state.ports["kafka"]) as relay:
        with patch.dict(COMPONENTS, {"kafka": _BehindARelay(relay.port)}):
            await asyncio.to_thread(stack.up, kafka=broker()[0])
            yield relay
