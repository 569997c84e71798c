"""Each process of the chart does its work as it is deployed.

That is: with the environment that the chart gives it, by the database role that is its own, as process 1,
as nobody in particular, without a capability, where no file can be written outside of /tmp.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql

import outbox
from outbox.stack import StackInfo
from outbox.stack.ports import pick
from outbox.store.grants import GRANTS
from tests.cli.test_signals import child_of
from tests.deploy.rendered import template
from tests.deploy.test_manifests import containers, environment, loaded

OUTBOX = str(Path(sys.executable).with_name("outbox"))
ROOT = Path(__file__).parents[2]
TOKEN = "an operator's, of this test"
SECONDS = 240
POLL_SECONDS = 0.1
# Root makes the files read-only; then it is nobody in particular. What is to run may itself lie in /tmp.
_CONFINE = """\
exec 3<"$0" && mount -o remount,bind,ro / && mount -t tmpfs none /tmp && cd / &&
mkdir -p "$0" && mount --no-canonicalize --bind /proc/self/fd/3 "$0" &&
exec unshare --user --map-user=10001 --map-group=10001 setpriv --no-new-privs "$@"
"""
POD = (
    *("unshare", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"),
    *("sh", "-c", _CONFINE, str(ROOT)),
)


@pytest.fixture(scope="module")
def pod() -> None:
    if subprocess.run([*POD, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host lets nobody make namespaces")


@pytest.fixture
def roles(database: str) -> None:
    """The outbox's roles are there, as an administrator of the cluster has made them."""
    with psycopg.connect(database) as admin:
        admin.execute(GRANTS.encode())


class Deployed:
    """The processes of a chart that is installed with the stores of a stack."""

    def __init__(self, settings: dict[str, str], secrets: dict[str, dict[str, str]], logs: Path) -> None:
        values = [f"settings.{name}={value}" for name, value in settings.items()]
        manifests = loaded(template("console.enabled=true", "prune.enabled=true", *values))
        self._containers = {one["name"]: one for one in containers(manifests)}
        self._secrets = secrets
        self._logs = logs

    def run(self, name: str) -> None:
        """A process that ends by itself, with 0."""
        command, told = self._process(name)
        ended = subprocess.run(
            command, env=told, capture_output=True, text=True, check=False, timeout=SECONDS
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    @contextmanager
    def running(self, name: str, port_setting: str) -> Iterator[str]:
        """A process that works, by its address, once its probes say so; SIGTERM ends it with 0."""
        command, told = self._process(name)
        # Another test of this machine may have the port.
        port = told[port_setting] = str(pick(set()))
        log = self._logs / name
        with log.open("wb") as stderr, subprocess.Popen(command, env=told, stderr=stderr) as process:
            try:
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    path = self._containers[name][probe]["httpGet"]["path"]
                    until_ok(f"http://127.0.0.1:{port}{path}", process, log)
                yield f"http://127.0.0.1:{port}"
                os.kill(child_of(process.pid), signal.SIGTERM)
                assert process.wait(SECONDS) == 0, log.read_text()
            finally:
                process.kill()

    def _process(self, name: str) -> tuple[list[str], dict[str, str]]:
        container = self._containers[name]
        (secret,) = (one["secretRef"]["name"] for one in container["envFrom"])
        path = {"PATH": os.environ["PATH"]}
        return [*POD, OUTBOX, *container["args"]], path | self._secrets[secret] | environment(container)


def until_ok(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Ask as the kubelet does, until the answer is yes."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=SECONDS):
                return
        except OSError:
            time.sleep(POLL_SECONDS)  # another program brings it about
    raise AssertionError(f"{url} never said yes: {log.read_text()}")


@contextmanager
def login(database: str, *, role: str | None = None) -> Iterator[str]:
    """The URL of a database for a login: a member of a role, or without one somebody who may make schemas."""
    name = f"login_{uuid4().hex[:8]}"
    identifier = sql.Identifier(name)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(identifier))
        if role is None:
            place = sql.Identifier(admin.info.dbname)
            admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(place, identifier))
        else:
            admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), identifier))
        info = admin.info
        yield f"postgresql://{name}:x@{info.host}:{info.port}/{info.dbname}"
        admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(identifier))
        admin.execute(sql.SQL("DROP ROLE {}").format(identifier))


@pytest.fixture
def install(
    stack: StackInfo, spicedb_schema: None, pod: None, roles: None, *, empty_database: str, tmp_path: Path
) -> Iterator[Callable[..., Deployed]]:
    """Has the chart installed with settings, and its migration done, as far as the pods of a test go."""
    del spicedb_schema, pod, roles  # there for their effects
    told = stack.environment()
    stores = {"OUTBOX_SPICEDB_TLS": "false"} | {
        name: told[name]
        for name in ("OUTBOX_SPICEDB_ENDPOINT", "OUTBOX_TEMPORAL_ADDRESS", "OUTBOX_TEMPORAL_NAMESPACE")
    }
    with ExitStack() as logins:

        def secret(role: str | None) -> dict[str, str]:
            url = logins.enter_context(login(empty_database, role=role))
            token = {"OUTBOX_SPICEDB_TOKEN": told["OUTBOX_SPICEDB_TOKEN"], "OUTBOX_CONSOLE_TOKEN": TOKEN}
            return {"OUTBOX_DATABASE_URL": url, **token}

        def installed(**settings: str) -> Deployed:
            secrets = {
                "outbox-owner": secret(None),
                "outbox-worker": secret("outbox_worker"),
                "outbox-operator": secret("outbox_operator"),
            }
            deployed = Deployed(stores | settings, secrets, tmp_path)
            for name in ("migrate", "authz-schema"):
                deployed.run(name)
            return deployed

        yield installed


async def created(database: str, agent: str) -> outbox.Intent:
    """An intent that a worker has created the schedule of."""
    request = outbox.CreateSchedule(
        agent_id=agent, name="daily", workflow_name="W", task_queue="q", interval_seconds=3600
    )
    async with await psycopg.AsyncConnection.connect(database) as producer:
        intent = await outbox.enqueue_create(producer, request, principal=outbox.Principal(user_id="alice"))
    result = await outbox.wait(database, intent.id, timeout=SECONDS)
    assert result.status is outbox.Status.SUCCEEDED
    return intent


async def test_from_the_migration_to_a_schedule(
    install: Callable[..., Deployed], empty_database: str, agent: str
) -> None:
    deployed = install()
    with deployed.running("worker", "OUTBOX_HTTP_PORT"):
        intent = await created(empty_database, agent)
        for name in ("doctor", "prune"):
            deployed.run(name)
    with deployed.running("console", "OUTBOX_CONSOLE_PORT") as url:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=SECONDS) as operator:
            answer = await operator.get(f"/api/v1/schedules/{intent.schedule_id}")
        assert answer.json()["agrees"] is True


@pytest.mark.campaign
async def test_on_the_kafka_wire_with_the_relay(
    install: Callable[..., Deployed], kafka: str, empty_database: str, agent: str
) -> None:
    deployed = install(OUTBOX_WIRE="kafka", OUTBOX_KAFKA_BOOTSTRAP=kafka, OUTBOX_KAFKA_PREFIX=agent)
    with (
        deployed.running("relay", "OUTBOX_HTTP_PORT"),
        deployed.running("worker", "OUTBOX_HTTP_PORT"),
    ):
        await created(empty_database, agent)
        deployed.run("doctor")
