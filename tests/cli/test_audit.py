"""audit: what it finds, what it asks for, and that a worker's repair brings it right."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import psycopg
import pytest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
)

from consumers.authz.client import AuthzClient, Match, Tuple
from consumers.calls import Call
from consumers.temporal.client import TemporalClient
from outbox.stack import StackInfo
from tests.cli.conftest import Cli
from tests.conftest import lose

T = TypeVar("T")
REQUEST = ("--workflow", "W", "--task-queue", "q", "--interval", "3600", "--user", "u1")


class Stores:
    """The two stores, for tests that run commands: those have an event loop each."""

    def __init__(self, stack: StackInfo) -> None:
        self._stack = stack

    def unschedule(self, schedule: str) -> None:
        async def delete() -> None:
            client = await TemporalClient.connect(self._stack.temporal_address, "default")
            await client.delete(schedule, Call.within(10))

        asyncio.run(delete())

    def schedule(self, schedule: str) -> None:
        """One without a stamp."""

        async def create() -> None:
            client = await Client.connect(self._stack.temporal_address)
            action = ScheduleActionStartWorkflow("Old", id="old", task_queue="old")
            spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=1))])
            await client.create_schedule(schedule, Schedule(action=action, spec=spec))

        asyncio.run(create())

    def relate(self, *tuples: Tuple) -> None:
        asyncio.run(self._with_client(lambda client: client.touch(tuples, Call.within(10))))

    def unrelate(self, schedule: str) -> None:
        match = Match("agent_schedule", schedule)
        asyncio.run(self._with_client(lambda client: client.delete(match, [], Call.within(10))))

    def related(self, schedule: str) -> tuple[Tuple, ...]:
        match = Match("agent_schedule", schedule)
        return asyncio.run(self._with_client(lambda client: client.read(match, Call.within(10)))).tuples

    async def _with_client(self, action: Callable[[AuthzClient], Awaitable[T]]) -> T:
        client = AuthzClient.connect(self._stack.spicedb_endpoint, self._stack.spicedb_token, tls=False)
        try:
            return await action(client)
        finally:
            await client.close()


@pytest.fixture
def stores(stack: StackInfo) -> Stores:
    return Stores(stack)


@pytest.fixture
def live(cli: Cli, agent: str) -> str:
    cli("create", agent, "s", *REQUEST)
    assert cli("run", "--until-idle").code == 0
    return f"{agent}--s"


def kinds(cli: Cli, schedule: str) -> list[str]:
    ran = cli("audit", "--schedule", schedule, "--json")
    found = [line["kind"] for line in ran.lines]
    assert ran.code == (1 if any(line["ours"] for line in ran.lines) else 0)
    assert all(line["fix"] and line["detail"] for line in ran.lines)
    return found


def test_stores_that_agree(cli: Cli, live: str) -> None:
    assert kinds(cli, live) == []
    ran = cli("audit", "--schedule", live)
    assert (ran.code, "1 schedules compared, 1 of them live, 0 under way: the stores agree" in ran.out) == (
        0,
        True,
    )


def test_a_schedule_that_somebody_deleted_in_temporal_is_brought_back(
    cli: Cli, live: str, stores: Stores
) -> None:
    stores.unschedule(live)
    assert kinds(cli, live) == ["missing_schedule"]
    asked = cli("audit", "--schedule", live, "--repair")
    assert (asked.code, "repair asked for" in asked.err) == (1, True)
    assert cli("run", "--until-idle").code == 0
    assert kinds(cli, live) == []


def test_a_registration_that_somebody_deleted_is_brought_back(cli: Cli, live: str, stores: Stores) -> None:
    stores.unrelate(live)
    assert kinds(cli, live) == ["missing_tuple"]
    cli("audit", "--schedule", live, "--repair")
    cli("run", "--until-idle")
    assert kinds(cli, live) == []


def test_what_somebody_else_made_is_listed_and_left(cli: Cli, agent: str, stores: Stores) -> None:
    stranger = Tuple("agent_schedule", f"{agent}--theirs", "owner", "user", "stranger")
    stores.relate(stranger)
    assert kinds(cli, f"{agent}--theirs") == ["foreign"]
    cli("audit", "--schedule", f"{agent}--theirs", "--repair")
    cli("run", "--until-idle")
    assert stores.related(f"{agent}--theirs") == (stranger,)


def test_a_schedule_that_ran_out_is_finished_and_no_drift(
    cli: Cli, live: str, stores: Stores, database: str
) -> None:
    stores.unschedule(live)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE outbox.intents SET request = request || jsonb_build_object('end_at', %s::text)",
            (yesterday,),
        )
    assert kinds(cli, live) == ["finished"]
    asked = cli("audit", "--schedule", live, "--repair")
    assert (asked.code, "repair asked for" in asked.err) == (0, True)
    cli("run", "--until-idle")
    assert kinds(cli, live) == []
    assert stores.related(live) == ()


def test_legacy_schedules_are_adopted_once_the_operator_says_so(
    cli: Cli, agent: str, stores: Stores, database: str
) -> None:
    old = f"{agent}--old"
    owner = Tuple("agent_schedule", old, "owner", "user", "carol")
    stores.relate(owner)
    stores.schedule(old)
    assert kinds(cli, old) == ["legacy"]
    shown = cli("audit", "--schedule", old, "--adopt")
    assert (shown.code, shown.err) == (1, "nothing adopted: --yes adopts these 1\n")
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM outbox.intents").fetchone() == (0,)
    done = cli("audit", "--schedule", old, "--adopt", "--yes")
    assert (done.code, f"{old}: adoption asked for" in done.err) == (0, True)
    cli("run", "--until-idle")
    assert kinds(cli, old) == []
    assert owner in stores.related(old)
    assert len(stores.related(old)) == 2
    assert "1 of them live" in cli("audit", "--schedule", old).out


def test_forgotten_schedules_are_reclaimed_once_the_operator_says_so(
    cli: Cli, live: str, stores: Stores, database: str
) -> None:
    lose_the_ledger(database)
    assert kinds(cli, live) == ["forgotten"]
    before = stores.related(live)
    shown = cli("audit", "--schedule", live, "--reclaim")
    assert (shown.code, shown.err) == (1, "nothing reclaimed: --yes reclaims these 1\n")
    done = cli("audit", "--schedule", live, "--reclaim", "--yes")
    assert (done.code, f"{live}: reclaim asked for" in done.err) == (1, True)
    cli("run", "--until-idle")
    assert kinds(cli, live) == []
    assert stores.related(live) == before
    assert "1 of them live" in cli("audit", "--schedule", live).out
    created, reclaimed = cli("show", live, "--json").json["intents"]
    assert {created["status"], reclaimed["status"]} == {"succeeded"}

    stores.unschedule(live)
    stores.unrelate(live)
    cli("audit", "--schedule", live, "--repair")
    cli("run", "--until-idle")
    assert kinds(cli, live) == []
    assert stores.related(live) == before
    agent, _, name = live.partition("--")
    assert cli("delete", agent, name, "--user", "u1").code == 0
    cli("run", "--until-idle")
    assert kinds(cli, live) == []
    assert stores.related(live) == ()


def test_what_names_no_outbox_is_reclaimed_by_its_name_alone(
    cli: Cli, live: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_ledger(database)
    monkeypatch.setattr("consumers.temporal.client.instance_in", lambda _: None)
    assert kinds(cli, live) == ["foreign"]
    assert live not in cli("audit", "--reclaim", "--yes").err
    assert f"{live}: reclaim asked for" in cli("audit", "--schedule", live, "--reclaim", "--yes").err


def test_another_outbox_s_is_never_reclaimed_and_a_new_database_is_told_whose_it_is(
    cli: Cli, live: str, database: str
) -> None:
    ours = lose_the_ledger(database)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE outbox.instance SET id = gen_random_uuid()")
    looked = cli("audit", "--schedule", live, "--reclaim", "--yes", "--json")
    assert {line["kind"] for line in looked.lines} == {"foreign"}
    assert any(ours in line["detail"] for line in looked.lines)
    assert "asked for" not in looked.err
    assert cli("migrate", OUTBOX_INSTANCE=ours).code == 0
    assert kinds(cli, live) == ["forgotten"]


def lose_the_ledger(database: str) -> str:
    """Have nothing in it but which outbox it is, as where its id was set; returns that."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "TRUNCATE outbox.intents, outbox.events, outbox.attempts, outbox.queue, outbox.lanes"
        )
        (row,) = connection.execute("SELECT id::text FROM outbox.instance").fetchall()
        return str(row[0])


def test_an_audit_of_everything_sums_up_by_kind_and_asks_once_for_each_schedule(
    cli: Cli, agent: str, stores: Stores
) -> None:
    for name in ("a", "b", "c"):
        cli("create", agent, name, *REQUEST)
    assert cli("run", "--until-idle").code == 0
    stores.unschedule(f"{agent}--a")
    stores.unrelate(f"{agent}--a")
    stores.unrelate(f"{agent}--c")
    ran = cli("audit", "--repair")
    assert ran.code == 1
    assert "3 schedules compared, 3 of them live, 0 under way: 3 differences of ours" in ran.out
    assert "1 missing_schedule, 2 missing_tuple" in ran.out
    asked = [line.split(":")[0] for line in ran.err.splitlines() if "repair asked for" in line]
    assert asked == [f"{agent}--a", f"{agent}--c"]
    cli("run", "--until-idle")
    assert cli("audit").code == 0


def test_the_status_tells_of_the_audit_that_workers_do_by_themselves(
    cli: Cli, live: str, database: str
) -> None:
    assert live
    audit = cli("status", "--json").json["audit"]
    assert (audit["began_at"], audit["last_ended_at"]) == (None, None), "not until idle"
    assert "audit" not in cli("status").out
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE outbox.audit SET began_at = now(), looked = 7, last_began_at = now() - interval '90 s', "
            'last_ended_at = now(), last_looked = 12, last_found = \'{"missing_tuple": 2, "foreign": 1}\''
        )
    shown = cli("status").out
    assert "after 90 s, 12 schedules, 1 foreign, 2 missing_tuple" in shown
    assert "7 schedules so far, no differences" in shown


def test_yes_goes_with_what_changes_something(cli: Cli) -> None:
    ran = cli("audit", "--yes")
    assert (ran.code, "--yes goes with --repair, --adopt or --reclaim" in ran.err) == (2, True)


class TestTheBrake:
    """Where very much is missing at once, nothing of it is repaired before a person says so."""

    def test_an_audit_says_so_and_a_repair_asks_for_yes(self, cli: Cli, database: str, agent: str) -> None:
        lose(database, agent, 21)
        told = [
            "21 of 21 live schedules are not in Temporal: are OUTBOX_TEMPORAL_ADDRESS and _NAMESPACE right?",
            "21 of 21 live schedules lack relationships in SpiceDB: is OUTBOX_SPICEDB_ENDPOINT right?",
        ]
        looked = cli("audit")
        assert (looked.code, looked.err.splitlines()) == (1, told)
        refused = cli("audit", "--repair")
        assert refused.code == 1
        assert refused.err.splitlines() == [
            f"{line}; nothing of it is repaired: --yes does it all the same" for line in told
        ]
        assert "repair asked for" in cli("audit", "--schedule", f"{agent}--s1", "--repair").err
        done = cli("audit", "--repair", "--yes")
        assert (done.code, done.err.count("repair asked for")) == (1, 21)

    def test_status_and_doctor_say_so_after_a_round(self, cli: Cli, database: str) -> None:
        assert cli("doctor").code == 0
        with psycopg.connect(database) as connection:
            connection.execute(
                "UPDATE outbox.audit SET last_began_at = now(), last_ended_at = now(), last_looked = 300, "
                "last_live = 200, last_found = '{\"missing_schedule\": 21}'"
            )
        problem = "21 of 200 live schedules are not in Temporal"
        assert f"no repairs: {problem}" in cli("status").out
        ran = cli("doctor", "--json")
        (wrong,) = [line for line in ran.lines if not line["ok"]]
        assert (ran.code, wrong["component"], wrong["problem"].startswith(problem)) == (1, "Audit", True)
        assert "outbox audit --repair --yes" in wrong["fix"]

    @pytest.mark.parametrize(("count", "live"), [(20, 20), (30, 300)])
    def test_status_and_doctor_are_quiet_where_it_is_less(
        self, cli: Cli, database: str, *, count: int, live: int
    ) -> None:
        with psycopg.connect(database) as connection:
            connection.execute(
                "UPDATE outbox.audit SET last_began_at = now(), last_ended_at = now(), last_looked = 300, "
                "last_live = %s, last_found = jsonb_build_object('missing_schedule', %s::int)",
                (live, count),
            )
        assert "no repairs" not in cli("status").out
        assert cli("doctor").code == 0


def test_stores_that_can_not_be_read_are_exit_3(cli: Cli, live: str) -> None:
    assert cli("audit", OUTBOX_TEMPORAL_ADDRESS="127.0.0.1:1").code == 3
    assert live
