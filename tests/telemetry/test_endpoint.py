"""The HTTP endpoint of a process: whether its loops turn, whether it can work, what it measures."""

import asyncio
import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message
from typing import Any

import pytest
from structlog.testing import capture_logs

from outbox.compose.telemetry import serving, watching
from outbox.errors import OutboxError
from outbox.pulse import HUNG_SECONDS, Pulse
from outbox.settings import Settings

DEAD = "postgresql://x@127.0.0.1:1/x"


def get(port: int, path: str, **headers: str) -> tuple[int, str, Message]:
    """Ask the endpoint; nothing of this thread's event loop goes on meanwhile."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=240) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def told(port: int, path: str) -> tuple[int, Any]:
    status, body, _ = get(port, path)
    return status, json.loads(body)


@asynccontextmanager
async def endpoint(database: str = DEAD, **pulses: Pulse) -> AsyncIterator[int]:
    """The port of an endpoint, of a process that has these loops."""
    settings = Settings.model_validate({"database_url": database, "http_port": 0})
    with capture_logs() as logs:
        async with watching(settings) as watch, serving(watch, pulses, settings):
            (line,) = (line for line in logs if line["event"] == "http.serving")
            yield line["port"]


def hung() -> Pulse:
    pulse = Pulse()
    assert pulse._at is not None
    pulse._at -= HUNG_SECONDS
    return pulse


async def test_a_process_whose_loops_turn_is_healthy_though_its_event_loop_is_busy() -> None:
    async with endpoint(loop=Pulse(), settler=Pulse()) as port:
        # Blocks this event loop: the answer comes from aside.
        assert told(port, "/healthz") == (200, {"hung": []})


async def test_a_loop_that_hangs_is_named_and_one_that_beats_again_is_well() -> None:
    loop = hung()
    async with endpoint(loop=loop, settler=Pulse()) as port:
        assert told(port, "/healthz") == (503, {"hung": ["loop"]})
        loop.beat()
        assert told(port, "/healthz") == (200, {"hung": []})


async def test_a_loop_with_nothing_to_do_does_not_hang() -> None:
    settler = hung()
    settler.rest()
    async with endpoint(settler=settler) as port:
        assert told(port, "/healthz")[0] == 200


async def test_a_process_is_ready_while_postgres_answers_and_is_migrated(
    database: str, empty_database: str
) -> None:
    async with endpoint(database) as port:
        assert told(port, "/readyz") == (200, {"problem": None, "stores_down": []})
    async with endpoint(empty_database) as port:
        status, body = told(port, "/readyz")
        assert (status, "outbox migrate" in body["problem"]) == (503, True)
    async with endpoint(DEAD) as port:
        status, body = told(port, "/readyz")
        assert (status, "Connection refused" in body["problem"]) == (503, True)


async def test_a_postgres_that_says_nothing_is_told_of_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with endpoint(f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x") as port:
            status, body = told(port, "/readyz")
            assert (status, body["problem"]) == (503, "Postgres does not answer within 3 s")
            assert told(port, "/healthz")[0] == 200


async def test_the_metrics_are_text_and_openmetrics_where_that_is_asked_for() -> None:
    async with endpoint(loop=Pulse()) as port:
        _, page, headers = get(port, "/metrics")
        assert headers["content-type"].startswith("text/plain")
        assert 'outbox_loop_age_seconds{loop="loop"}' in page
        assert "outbox_build_info{version=" in page
        _, page, headers = get(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert headers["content-type"].startswith("application/openmetrics-text")
        assert page.endswith("# EOF\n")


async def test_who_scrapes_and_does_not_read_keeps_nobody_waiting() -> None:
    async with endpoint(loop=Pulse()) as port:
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
            assert told(port, "/healthz")[0] == 200
            assert get(port, "/metrics")[0] == 200
    # And the endpoint has ended, though that connection was open.


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings.model_validate({"database_url": DEAD, "http_port": port})
        async with watching(settings) as watch:
            with pytest.raises(ValueError, match=f"OUTBOX_HTTP_PORT {port} can't be listened on"):
                async with serving(watch, {}, settings):
                    pass


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("outbox.telemetry.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)


@pytest.mark.usefixtures("without_the_extra")
async def test_without_the_extra_the_endpoint_names_it() -> None:
    settings = Settings.model_validate({"database_url": DEAD, "http_port": 0})
    with pytest.raises(OutboxError, match=r"agent-schedule-outbox\[telemetry\]"):
        async with watching(settings):
            pass


@pytest.mark.usefixtures("without_the_extra")
async def test_without_the_extra_variables_that_a_platform_sets_for_all_are_told_of_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with capture_logs() as logs:
        async with watching(Settings.model_validate({"database_url": DEAD})) as watch:
            watch.observer.took([], 0.0)
    assert [line["event"] for line in logs] == ["telemetry.missing"]


async def test_nobody_who_asks_for_nothing_loads_anything() -> None:
    code = (
        "import asyncio, sys\n"
        "from outbox.compose.telemetry import watching\nfrom outbox.settings import Settings\n"
        "async def main():\n    async with watching(Settings()): print(*sys.modules)\nasyncio.run(main())"
    )
    asked = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    loaded = {name.partition(".")[0] for name in (await asked.communicate())[0].decode().split()}
    assert loaded & {"opentelemetry", "prometheus_client", "starlette", "uvicorn"} == set()
