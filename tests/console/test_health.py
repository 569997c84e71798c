"""How it is: components, settings, workers seen lately; and what probes and Prometheus ask."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from outbox.compose.doctor import examine
from outbox.compose.presence import RELAY, present
from outbox.console.shared import Shared
from outbox.stack import StackInfo
from tests.conftest import settings_for
from tests.console.conftest import Consoles, served
from tests.console.test_access import TOKENS, VIEWER, bearer


async def test_each_component_is_told_of_by_itself_with_its_fix(consoles: Consoles) -> None:
    client = await consoles.open(temporal_address="127.0.0.1:1")
    components = (await client.get("/api/v1/doctor")).json()["components"]
    wrong = {one["component"] for one in components if not one["ok"]}
    assert wrong == {"Temporal"}
    assert {one["component"] for one in components if one["ok"]} >= {"Postgres", "SpiceDB"}
    page = (await client.get("/health")).text
    assert "<strong>Temporal:</strong>" in page
    assert "mend OUTBOX_TEMPORAL_ADDRESS" in page


async def test_a_server_that_says_nothing_is_told_of_in_time_and_hides_nothing_of_the_others(
    stack: StackInfo, spicedb_schema: None
) -> None:
    del spicedb_schema
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x"
        async with asyncio.timeout(120):
            findings = await examine(settings_for(stack, place))
    assert [(one.component, one.problem) for one in findings if one.problem] == [
        ("Postgres", "no answer within 8 s")
    ]
    assert {one.component for one in findings if one.problem is None} == {"SpiceDB", "Temporal"}


async def test_components_are_looked_at_once_for_all_who_ask_within_seconds() -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        return asked

    shared = Shared(3600)
    assert [await shared.get("doctor", ask) for _ in range(3)] == [1, 1, 1]


async def test_settings_are_shown_and_no_secret_is(consoles: Consoles, as_operator: str) -> None:
    client = await consoles.open(**TOKENS)
    answer = await client.get("/api/v1/settings", headers=bearer(VIEWER))
    listed = {one["name"]: one for one in answer.json()["settings"]}
    assert listed["OUTBOX_DATABASE_URL"]["value"] == "********"
    assert (listed["OUTBOX_LEASE_SECONDS"]["value"], listed["OUTBOX_LEASE_SECONDS"]["set"]) == (3.0, True)
    page = (await client.get("/health", headers=bearer(VIEWER))).text
    assert "How long a worker that was told to stop" in page
    for secret in (as_operator, *map(str, TOKENS.values())):
        assert secret not in answer.text
        assert secret not in page


async def test_who_works_is_seen_and_who_is_gone_is_said_to_be(
    client: httpx.AsyncClient, stack: StackInfo, ledger: str
) -> None:
    assert "None was seen in the last half minute" in (await client.get("/")).text
    settings = settings_for(stack, ledger)
    async with present(settings, ["temporal", "authz"]), present(settings, [RELAY]), asyncio.timeout(240):
        workers: list[Any] = []
        while len(workers) < 2:
            workers = (await client.get("/api/v1/overview")).json()["workers"]
        assert sorted((one["serves"], one["present"]) for one in workers) == [
            (["authz", "temporal"], True),
            (["relay"], True),
        ]
        page = (await client.get("/")).text
        assert f"{workers[0]['pid']} on " in page
        assert "None was seen" not in page
        figures = (await client.get("/metrics")).text
        assert 'outbox_workers{serves="temporal"} 1.0' in figures
        with psycopg.connect(ledger) as owner:
            owner.execute("UPDATE outbox.workers SET seen_at = seen_at - interval '10 minutes'")
        assert '<span class="status parked">gone</span>' in (await client.get("/")).text
    assert (await client.get("/api/v1/overview")).json()["workers"] == [], "they ended in order"


async def test_probes_are_answered_and_metrics_shown_to_who_may_see(consoles: Consoles) -> None:
    client = await consoles.open(**TOKENS)
    assert (await client.get("/healthz")).json() == {"hung": []}
    assert (await client.get("/readyz")).json() == {"ready": True}
    told = await client.get("/readyz", headers=bearer(VIEWER))
    assert told.json() == {"problem": None, "stores_down": []}
    assert (await client.get("/metrics")).status_code in {303, 401}
    metrics = await client.get("/metrics", headers=bearer(VIEWER))
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'outbox_waiting{place="incoming"}' in metrics.text


async def test_systemd_is_told_when_it_listens_and_when_it_stops(
    stack: StackInfo, as_operator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(240)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with served(stack, as_operator):
            assert systemd.recv(100) == b"READY=1"
        assert systemd.recv(100) == b"STOPPING=1"
