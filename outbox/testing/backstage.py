"""Backstage: the process behind the fixtures, with the stack, the workers, the proxies and the checker.

``outbox.testing.handles`` starts it as ``python -m outbox.testing.backstage HOME LISTENER``, and it ends when
its stdin does. It is a process of its own because what tests do to theirs is no business of a worker's: they
freeze clocks, capture output, make errors of warnings, and their event loops come and go.
"""

import asyncio
import json
import logging
import shutil
import socket
import sys
import traceback
from asyncio import Future, StreamReader, StreamWriter, Task
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import structlog

from outbox.compose import schema
from outbox.current import add_attempt
from outbox.settings import Settings
from outbox.stack import Stack, StackInfo
from outbox.testing.databases import prepare_template
from outbox.testing.trial import Trial, Violated, open_trial

_OF_A_TRIAL = frozenset(
    {
        "work",
        "converge",
        "leave",
        "arm",
        "clear_faults",
        "gate_reached",
        "open_gate",
        "begin_outage",
        "end_outage",
        "calls",
    }
)


class Backstage:
    """Answers what the fixtures ask; starts the stack at once."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._around = ExitStack()
        loop = asyncio.get_running_loop()
        self._starting: Future[Stack] = loop.run_in_executor(None, self._around.enter_context, stack)
        self._prepared = asyncio.create_task(self._prepare())
        self._trials: dict[str, tuple[Trial, AsyncExitStack]] = {}
        self._answering: set[Task[None]] = set()

    async def answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer the one request of a connection."""
        task = cast("Task[None]", asyncio.current_task())
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        request = json.loads(await reader.read())
        try:
            answer = {"done": await self._do(request["ask"], request["told"])}
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            answer = _failed(error)
        writer.write(json.dumps(answer).encode())
        writer.close()

    async def close(self) -> None:
        """End what each test has, and then the stack."""
        for task in self._answering:
            task.cancel()
        self._prepared.cancel()
        await asyncio.gather(*self._answering, self._prepared, return_exceptions=True)
        await asyncio.wait([self._starting])
        with self._around:
            for database in list(self._trials):
                await self._end(database)
            # It takes a second to stop in order, and what it holds goes anyway.
            self._stack.kill("temporal")

    async def _do(self, what: str, told: dict[str, Any]) -> Any:
        match what:
            case "stack":
                info, _ = await asyncio.shield(self._prepared)
                return asdict(info)
            case "begin":
                return await self._begin(**told)
            case "end":
                return await self._end(told["database"])
            case of_a_trial if of_a_trial in _OF_A_TRIAL:
                trial, _ = self._trials[told.pop("database")]
                return await getattr(trial, what)(**told)
        raise ValueError(f"nothing backstage can {what}")

    async def _prepare(self) -> tuple[StackInfo, str]:
        """Make all that trials share."""
        info = (await self._starting).info()
        if info is None:
            raise RuntimeError("the stack has ended")
        spicedb = {"spicedb_endpoint": info.spicedb_endpoint, "spicedb_token": info.spicedb_token}
        template, _ = await asyncio.gather(
            asyncio.to_thread(prepare_template, info),
            schema.apply(Settings.model_validate({**spicedb, "spicedb_tls": False}), lambda _: True),
        )
        return info, template

    async def _begin(self, settings: Mapping[str, Any], *, faults: bool) -> str:
        info, template = await asyncio.shield(self._prepared)
        async with AsyncExitStack() as opened:
            trial = await opened.enter_async_context(open_trial(info, template, settings, faults=faults))
            self._trials[trial.database_url] = trial, opened.pop_all()
        return trial.database_url

    async def _end(self, database: str) -> None:
        _, around = self._trials.pop(database)
        await around.aclose()


def _failed(error: Exception) -> dict[str, str]:
    """An error, as it is told to whoever asked."""
    match error:
        case TimeoutError():
            kind = "timed out"
        case ValueError():
            kind = "refused"
        case Violated():
            kind = "violated"
        case _:
            traceback.print_exception(error)
            return {"failed": "broken", "why": f"{type(error).__name__}: {error}"}
    return {"failed": kind, "why": str(error)}


async def main(home: Path, listener: int) -> None:
    """Be there until stdin ends; then leave nothing behind."""
    backstage = Backstage(Stack(home))
    try:
        server = await asyncio.start_unix_server(backstage.answer, sock=socket.socket(fileno=listener))
        await asyncio.to_thread(sys.stdin.buffer.read)
        server.close()
    finally:
        await backstage.close()
        shutil.rmtree(home, ignore_errors=True)


def _set_up_log() -> None:
    """For people, who read it beside a test that failed."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_attempt,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f"),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    _set_up_log()
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
