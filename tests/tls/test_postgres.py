"""Postgres over TLS: what works, what goes wrong and how it is named, what a worker makes of it meanwhile."""

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import create_async_engine
from structlog.testing import capture_logs
from typer.testing import CliRunner

import outbox
from outbox.cli.main import app
from outbox.compose.checks import check_postgres
from outbox.settings import Settings
from outbox.stack import StackInfo
from tests.pipeline.ledger import until
from tests.tls.credentials import Authority
from tests.tls.secure_postgres import BY_CERTIFICATE, BY_PASSWORD, PASSWORD, SecurePostgres
from tests.worker.conftest import Bench

OVER_TLS = "sslmode, sslrootcert, sslcert and sslkey in OUTBOX_DATABASE_URL"


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[SecurePostgres]:
    with SecurePostgres.running(authority) as running:
        yield running


def schedule(agent: str) -> outbox.CreateSchedule:
    return outbox.CreateSchedule(
        agent_id=agent, name="s", workflow_name="W", task_queue="q", interval_seconds=60
    )


async def enqueue(connection: Any) -> outbox.Intent:
    principal = outbox.Principal(user_id="alice")
    return await outbox.enqueue_create(connection, schedule(f"agent-{uuid4().hex}"), principal=principal)


@pytest.mark.parametrize("role", [BY_CERTIFICATE, BY_PASSWORD])
async def test_producers_workers_and_those_who_wait(server: SecurePostgres, *, role: str) -> None:
    url = server.url(role)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        intent = await enqueue(connection)
    async with Bench(url).worker() as worker:
        await worker.run()
    assert (await outbox.wait(url, intent.id)).status == "succeeded"


async def test_a_producer_on_asyncpg(server: SecurePostgres) -> None:
    told = conninfo_to_dict(server.url(BY_CERTIFICATE))
    context = ssl.create_default_context(cafile=str(told["sslrootcert"]))
    context.load_cert_chain(str(told["sslcert"]), str(told["sslkey"]))
    place = f"{told['user']}@{told['host']}:{told['port']}/{told['dbname']}"
    engine = create_async_engine(f"postgresql+asyncpg://{place}", connect_args={"ssl": context})
    async with engine.begin() as connection:
        intent = await enqueue(connection)
    async with Bench(server.url(BY_CERTIFICATE)).worker() as worker:
        await worker.run()
    assert (await outbox.wait(engine, intent.id)).status == "succeeded"
    await engine.dispose()


FAULTS = {
    "authority": "certificate verify failed",
    "name": "does not match host name",
    "in the clear": "no encryption",
    "no certificate": "valid client certificate",
    "stranger's certificate": "SSL",
    "expired certificate": "SSL",
}


@pytest.fixture(params=list(FAULTS))
def wrong(
    request: pytest.FixtureRequest, server: SecurePostgres, authority: Authority, stranger: Authority
) -> tuple[str, str]:
    """A URL with which nobody gets in, and what is said of why."""

    def showing(by: Authority, *, expired: bool) -> str:
        pair = by.issue(BY_CERTIFICATE, common_name=BY_CERTIFICATE, expired=expired)
        return server.url(BY_CERTIFICATE, sslcert=str(pair.certificate), sslkey=str(pair.key))

    match request.param:
        case "authority":
            url = server.url(BY_CERTIFICATE, sslrootcert=str(stranger.file))
        case "name":
            url = server.url(BY_CERTIFICATE).replace("127.0.0.1", "localhost")
        case "in the clear":
            url = server.url(BY_CERTIFICATE, sslmode="disable")
        case "no certificate":
            url = server.url(BY_CERTIFICATE, sslcert="none.pem")
        case "stranger's certificate":
            url = showing(stranger, expired=False)
        case _:
            url = showing(authority, expired=True)
    return url, FAULTS[request.param]


async def test_doctor_names_what_to_mend(wrong: tuple[str, str]) -> None:
    url, said = wrong
    (finding,) = await check_postgres(Settings.model_validate({"database_url": url}))
    assert said in str(finding.problem)
    assert finding.fix == f"start it, or mend {OVER_TLS}"
    assert not finding.reachable


def test_so_does_a_command(wrong: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    url, said = wrong
    monkeypatch.setenv("OUTBOX_DATABASE_URL", url)
    ran = CliRunner().invoke(app, ["status"])
    assert ran.exit_code == 3
    line, _ = ran.stderr.splitlines()
    assert line.startswith("outbox: Postgres can't be reached: ")
    assert said in line
    assert line.endswith(f"(check {OVER_TLS})")


async def test_tls_asked_of_a_server_without(stack: StackInfo) -> None:
    url = f"{stack.database_url}?sslmode=require"
    (finding,) = await check_postgres(Settings.model_validate({"database_url": url}))
    assert "server does not support SSL" in str(finding.problem)
    assert finding.fix == f"start it, or mend {OVER_TLS}"


async def test_a_wrong_password_is_not_told(server: SecurePostgres) -> None:
    url = server.url(BY_PASSWORD).replace(PASSWORD, "also-not-one")
    (finding,) = await check_postgres(Settings.model_validate({"database_url": url}))
    assert "password authentication failed" in str(finding.problem)
    assert "also-not-one" not in str(finding.problem)
    assert finding.fix == "start it, or mend OUTBOX_DATABASE_URL"


@pytest.mark.parametrize("what", ["certificate", "password"])
async def test_what_is_changed_while_a_worker_runs_is_waited_out(
    server: SecurePostgres, authority: Authority, *, what: str
) -> None:
    role, said = {
        "certificate": (BY_CERTIFICATE, "certificate verify failed"),
        "password": (BY_PASSWORD, "password authentication failed"),
    }[what]
    url = server.url(role)
    with capture_logs() as logs:
        async with Bench(url).worker(until_idle=False) as worker:
            running = asyncio.create_task(worker.run())

            async def turned_away() -> bool:
                # Again and again: a session that was just being made is none yet, and would go on.
                await asyncio.to_thread(server.cut_off)
                return any(said in str(line.get("reason")) for line in logs)

            async with await psycopg.AsyncConnection.connect(server.url("postgres")) as connection:
                # Still connected when the server has its new certificate.
                if what == "certificate":
                    server.show(authority.issue(expired=True))
                else:
                    server.execute(f"ALTER ROLE {role} PASSWORD 'another'")
                await until("the worker to be turned away", turned_away)
                intent = await enqueue(connection)
            if what == "certificate":
                server.show(authority.issue())
            else:
                server.execute(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
            result = await outbox.wait(url, intent.id)
            worker.stop()
            await running
    assert result.status == "succeeded"
