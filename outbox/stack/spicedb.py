"""SpiceDB's engine behind a small gRPC server of ours, as one more server of the stack."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from outbox.stack import library
from outbox.stack.component import Command
from outbox.stack.state import State


class SpiceDB:
    """One server with its journal in `<home>/spicedb`."""

    name: ClassVar[str] = "spicedb"
    title: ClassVar[str] = "SpiceDB"
    module: ClassVar[str] = "outbox.stack.spicedb_server"
    port_names: ClassVar[tuple[str, ...]] = ("spicedb",)
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def prepare(self, home: Path, state: State, tell: Callable[[str], None]) -> None:
        """Make its folder, clear it of old sockets, and have the native library at hand."""
        del state
        folder = home / self.name
        folder.mkdir(exist_ok=True)
        # A server that was killed leaves its socket there.
        for leftover in folder.glob("spicedb-streaming-*.sock"):
            leftover.unlink()
        library.ensure(tell)

    def command(self, home: Path, state: State) -> Command:
        """Our server; the token travels in the environment, where no process list shows it."""
        argv = [sys.executable, "-m", self.module, str(home / self.name), str(state.ports["spicedb"])]
        env = {
            **os.environ,
            **library.environment(),
            "OUTBOX_SPICEDB_TOKEN": state.token,
            # The engine puts its socket there: a relative path is short, however deep its folder is.
            "TMPDIR": ".",
        }
        return Command(argv, env)

    def matches(self, home: Path, command_line: Sequence[str]) -> bool:
        """A server names its folder."""
        return list(command_line[1:4]) == ["-m", self.module, str(home / self.name)]

    def failure(self, state: State) -> str | None:
        """Read the schema with the stack's token; that there is none yet is an answer too."""
        # Commands that only look for a running stack load no client.
        import grpc  # noqa: PLC0415
        from authzed.api.v1 import ReadSchemaRequest  # noqa: PLC0415

        with grpc.insecure_channel(f"127.0.0.1:{state.ports['spicedb']}") as channel:
            read_schema = channel.unary_unary("/authzed.api.v1.SchemaService/ReadSchema")
            token = ("authorization", f"Bearer {state.token}")
            try:
                read_schema(ReadSchemaRequest().SerializeToString(), timeout=2, metadata=(token,))
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    return str(error.details())
        return None
