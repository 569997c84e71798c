"""`outbox console` as a process: it listens where it may, tells where, and ends when it is told to."""

import os
import signal
import subprocess
import sys
from typing import Any

import httpx
import orjson
import pytest

from outbox.stack import StackInfo

Environment = dict[str, str]


@pytest.fixture(scope="module")
def environment(stack: StackInfo, as_operator: str) -> Environment:
    others = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOX_")}
    return others | stack.environment() | {"OUTBOX_DATABASE_URL": as_operator}


def console(environment: Environment, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "outbox", "console", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def test_it_tells_its_address_and_ends_by_a_signal(environment: Environment) -> None:
    with console(environment, "--port", "0", "--json") as process:
        assert process.stdout
        url = orjson.loads(process.stdout.readline())["url"]
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{url}api/v1/overview").json()["pending"] == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 0


def test_where_others_reach_it_it_asks_for_a_guard(environment: Environment) -> None:
    with console(environment, "--host", "0.0.0.0") as process:
        _, said = process.communicate(timeout=240)
    assert process.returncode == 2
    assert b"only with OUTBOX_CONSOLE_TOKEN or" in said
