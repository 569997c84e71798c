"""The demo's verdict and what follows from it, without any store."""

import asyncio
import io
import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from rich.console import Console
from typer.testing import CliRunner

from outbox.audit.drift import Drift, DriftKind, Fix, Report
from outbox.cli import playing as command
from outbox.cli.main import app
from outbox.demo import summary
from outbox.demo.story import Ended
from outbox.demo.verdict import Ending, Verdict, judge
from outbox.demo.view import LiveView, PlainView, open_view, panel, status_line
from outbox.demo.watch import Snapshot, news
from outbox.demo.workers import DemoFailed, Workers
from outbox.demo.workload import AGAIN, BAD_CRON, NEW, build
from outbox.flow.table import Kind

WORKLOAD = build("test")
NAME = "billing-agent-test--daily-report"
CREATED = Ending(UUID(int=1), NAME, NEW, "succeeded", "schedule.created", None)
REFUSED = Ending(UUID(int=2), "a--typo", BAD_CRON, "failed", "schedule.create_failed", "refused")
ORPHAN = Drift(NAME, DriftKind.ORPHAN_TUPLE, "relationships of an intent that is not live", Fix.REPAIR)


def verdict(
    *drifts: Drift,
    endings: tuple[Ending, ...] = (CREATED, REFUSED),
    busy: tuple[str, ...] = (),
    untouched: bool = True,
) -> Verdict:
    report = Report(list(drifts), list(busy), lanes=2, live=1)
    return judge(endings, report, {"a--held": untouched}, run={NAME, "a--typo", "a--held"})


def test_all_as_it_must_be_is_good() -> None:
    assert verdict().good


def test_a_drift_of_ours_is_not_good() -> None:
    assert not verdict(ORPHAN).good


def test_a_stranger_s_object_is_no_drift_of_ours() -> None:
    assert verdict(Drift("a--held", DriftKind.FOREIGN, "", Fix.NONE)).good


def test_a_drift_of_another_run_is_told_and_not_held_against_this_one() -> None:
    other = Drift("x--y", DriftKind.ORPHAN_TUPLE, "", Fix.REPAIR)
    found = verdict(other, busy=("x--z",))
    assert found.good
    assert list(found.elsewhere) == [other]


def test_a_lane_that_never_settled_is_not_good() -> None:
    assert not verdict(busy=(NAME,)).good


def test_a_stranger_s_object_that_changed_is_not_good() -> None:
    assert not verdict(untouched=False).good


@pytest.mark.parametrize(
    ("event_type", "error_code"),
    [("schedule.create_failed", "refused"), ("schedule.created", "refused"), ("schedule.registered", None)],
)
def test_another_ending_than_expected_is_not_good(event_type: str, error_code: str | None) -> None:
    wrong = Ending(UUID(int=3), NAME, AGAIN, "failed", event_type, error_code)
    found = verdict(endings=(CREATED, wrong))
    assert not found.good
    assert found.unexpected == [wrong]


# What is printed of it, and the exit code.


def ended(found: Verdict) -> Ended:
    attempts = [{"consumer": "authz", "error_code": "unreachable", "count": 3}]
    return Ended(found, first_seconds=1.5, seconds=9.25, failed_attempts=attempts)


def printed(found: Verdict) -> str:
    console = Console(file=io.StringIO(), width=120)
    summary.show(console, ended(found), WORKLOAD)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_good_run_says_so_and_what_to_try_next() -> None:
    text = printed(verdict())
    assert "All three stores agree" in text
    assert f"outbox show {NAME}" in text
    assert "3 authz unreachable" in text


def test_a_bad_run_names_what_is_wrong() -> None:
    wrong = Ending(UUID(int=3), NAME, NEW, "failed", "schedule.create_failed", "refused")
    other = Drift("x--y", DriftKind.MISSING_TUPLE, "lacks its owner", Fix.REPAIR)
    text = printed(verdict(ORPHAN, other, endings=(wrong,), busy=("a--typo",), untouched=False))
    assert "All three stores agree" not in text
    for expected in (
        "orphan_tuple",
        "expected: schedule.created",
        "a--typo: has intents",
        "was touched",
        "not of this run: x--y missing_tuple",
        "Something is wrong",
    ):
        assert expected in text


@pytest.fixture
def _signals() -> Iterator[None]:
    """The command takes the process's signals for itself."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


class IdleStack:
    """Stands in for the servers, which the verdict alone doesn't need; notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def info(self) -> None:
        return None

    def up(self) -> None:
        self.asked.append("up")

    def down(self) -> None:
        self.asked.append("down")


@pytest.fixture
def idle_stack(monkeypatch: pytest.MonkeyPatch, _signals: None) -> IdleStack:
    stack = IdleStack()
    monkeypatch.setattr(command, "embedded_stack", lambda **_: stack)
    monkeypatch.setattr(command, "start", lambda _: SimpleNamespace())
    return stack


@pytest.mark.parametrize(("found", "code"), [(verdict(), 0), (verdict(ORPHAN), 1)])
def test_the_exit_code_is_the_verdict(
    found: Verdict, code: int, idle_stack: IdleStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_play", lambda *_: ended(found))
    result = CliRunner().invoke(app, ["demo", "--json"])
    assert result.exit_code == code
    told = json.loads(result.stdout)
    assert told["ok"] is found.good
    assert len(told["agreement"]["drifts"]) == code
    assert idle_stack.asked == []


@pytest.mark.parametrize(("ran", "then"), [(True, "up"), (False, "down")])
def test_a_run_that_breaks_off_leaves_the_stack_as_it_was_found(
    ran: bool, then: str, idle_stack: IdleStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Ended:
        raise KeyboardInterrupt

    monkeypatch.setattr(idle_stack, "info", lambda: SimpleNamespace() if ran else None)
    monkeypatch.setattr(command, "_play", broken)
    assert CliRunner().invoke(app, ["demo"]).exit_code == 130
    assert idle_stack.asked == [then]


# The workload.


def test_every_request_of_the_workload_is_its_own_lane_s_and_valid() -> None:
    planned = [one for wave in WORKLOAD.waves for transaction in wave for one in transaction]
    assert len(planned) == 200
    assert sum(one.repeated for one in planned) == 1
    assert {one.entry.request.agent_id.rpartition("-")[2] for one in planned} == {"test"}
    creates = [one.entry.request.schedule_id for one in planned if one.entry.request.kind == Kind.CREATE]
    assert WORKLOAD.example in creates
    assert {stranger.schedule_id for stranger in WORKLOAD.strangers} <= set(creates)


def test_runs_do_not_meet() -> None:
    def names(run: str) -> set[str]:
        waves = build(run).waves
        return {one.entry.request.schedule_id for wave in waves for batch in wave for one in batch}

    assert not names("aaaa") & names("bbbb")


# What is shown meanwhile.


def row(status: str, place: str | None = None, state: str | None = None, name: str = NAME) -> dict[str, Any]:
    return {"id": uuid4(), "schedule_id": name, "status": status, "place": place, "state": state}


SNAPSHOT = Snapshot(
    intents=[
        row("succeeded"),
        row("pending", "head", "leased"),
        row("failed", name="a--b"),
        row("pending", "incoming", "queued", name="c--d"),
    ],
    recent=[
        {"schedule_id": NAME, "what": "authz retry", "error_code": "unreachable", "at": datetime.now(UTC)}
    ],
    breakers=[{"consumer": "authz", "error_code": "unreachable"}],
)


def test_a_snapshot_in_one_line() -> None:
    assert status_line(SNAPSHOT) == (
        "2 of 4 intents ended, 1 of 3 lanes settled, 1 under way, 1 not seen yet, SpiceDB unreachable"
    )


def test_a_snapshot_as_a_picture() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(panel(SNAPSHOT, 1.25), panel(Snapshot(), 0.0))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for expected in (
        "2/4",
        "1/3",
        "under way 1",
        "SpiceDB: unreachable",
        "authz retry",
        "SpiceDB and Temporal answer",
    ):
        assert expected in text


def test_breakers_are_told_when_they_open_and_close() -> None:
    assert [line.count("breaker opens") for line in news(Snapshot(), SNAPSHOT)] == [1]
    assert [line.count("breaker closes") for line in news(SNAPSHOT, Snapshot())] == [1]
    assert list(news(SNAPSHOT, SNAPSHOT)) == []


def test_without_a_terminal_there_are_plain_lines() -> None:
    console = Console(file=io.StringIO(), width=200)
    with open_view(console, time.monotonic() - 5) as view:
        assert isinstance(view, PlainView)
        view.tell("[bold]something[/] happens")
        view._shown_at -= 5
        view.show(SNAPSHOT)
        view.show(SNAPSHOT)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line.split(" s  ", 1)[1][:9] for line in lines] == ["something", "2 of 4 in"]


def test_on_a_terminal_the_picture_moves() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with open_view(console, time.monotonic()) as view:
        assert isinstance(view, LiveView)
        view.show(SNAPSHOT)
        view.tell("something happens")
    assert isinstance(console.file, io.StringIO)
    assert "something happens" in console.file.getvalue()


async def test_a_worker_that_ends_by_itself_ends_the_demo(tmp_path: Path) -> None:
    workers = Workers({"OUTBOX_DATABASE_URL": "not a url"}, tmp_path)
    await workers.start()
    process = workers._running[1]
    await asyncio.wait_for(process.wait(), 60)
    with pytest.raises(DemoFailed, match="worker 1 ended by itself, exit code 2"):
        workers.check()
    await workers.stop()
