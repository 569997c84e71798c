"""What the demo says at its end: endings, agreement, what to try next; for people and for programs."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from outbox.demo.story import Ended
from outbox.demo.verdict import Ending, Verdict
from outbox.demo.workload import Case, Workload
from outbox.settings import Settings

_CONSOLE = "outbox console"


def as_json(ended: Ended, workload: Workload) -> dict[str, Any]:
    """The run as one JSON object."""
    verdict = ended.verdict
    return {
        "ok": verdict.good,
        "run": workload.run,
        "first_converged_seconds": round(ended.first_seconds, 2),
        "seconds": round(ended.seconds, 2),
        "intents": len(verdict.endings),
        "endings": [
            {"event_type": event, "error_code": code, "asked": asked, "count": count}
            for (event, code, asked), count in _grouped(verdict)
        ],
        "unexpected": [_unexpected(one) for one in verdict.unexpected],
        "failed_attempts": list(ended.failed_attempts),
        "agreement": {
            "agrees": verdict.report.agrees,
            "lanes": verdict.report.lanes,
            "live": verdict.report.live,
            "busy": verdict.report.busy,
            "drifts": [
                {"schedule_id": drift.schedule_id, "kind": drift.kind, "detail": drift.detail}
                for drift in verdict.report.drifts
            ],
        },
        "strangers": [
            {"schedule_id": name, "untouched": untouched} for name, untouched in verdict.strangers.items()
        ],
        "next": [command for command, _ in hints(verdict, workload)],
        "console": _CONSOLE,
    }


def _unexpected(one: Ending) -> dict[str, Any]:
    return {
        "intent_id": one.intent_id,
        "schedule_id": one.schedule_id,
        "status": one.status,
        "event_type": one.event_type,
        "error_code": one.error_code,
        "expected_event_type": one.case.event,
        "expected_error_code": one.case.error,
    }


def show(console: Console, ended: Ended, workload: Workload) -> None:
    """Print the run for people."""
    verdict = ended.verdict
    console.print(_endings(verdict))
    attempts = ", ".join(
        f"{row['count']} {row['consumer']} {row['error_code']}" for row in ended.failed_attempts
    )
    console.print(f"attempts that failed on the way and were made good: {attempts or 'none'}", style="dim")
    console.print(_agreement(verdict))
    for drift in verdict.elsewhere:
        console.print(
            f"not of this run: {drift.schedule_id} {drift.kind}: {drift.detail}", style="yellow", markup=False
        )
    console.print(
        f"first intent ended after {ended.first_seconds:.1f} s, all {len(verdict.endings)} "
        f"after {ended.seconds:.1f} s",
        highlight=False,
    )
    if verdict.good:
        console.print("[bold green]All three stores agree, and every intent ended as it must.[/]")
    else:
        console.print("[bold red]Something is wrong: see the red lines above.[/]")
    _next(console, verdict, workload)


def hints(verdict: Verdict, workload: Workload) -> Iterator[tuple[str, str]]:
    """Commands that work now, and what each shows."""
    failed = next((one for one in verdict.endings if one.error_code == "refused"), None)
    example = workload.example
    agent, _, name = example.partition("--")
    yield f"outbox show {example}", "one timeline: steps, attempts, errors"
    if failed:
        yield f"outbox show {failed.intent_id}", "a refusal, and how its registration was compensated"
    yield "outbox intents --status failed", "what failed, and why"
    yield (
        f"outbox create {agent} {name}-2 --workflow W --task-queue agents --interval 3600 --user alice",
        "a request of your own, committed; it waits for a worker",
    )
    yield f"outbox show {agent}--{name}-2", "why it waits"
    yield "outbox run --until-idle", "a worker, until nothing is left to do"
    yield "outbox status", "depths, oldest head, rates, stores that are down"
    yield "outbox down", "stops the servers; their data stays"


def _grouped(verdict: Verdict) -> list[tuple[tuple[str, str | None, str], int]]:
    counts = Counter((one.event_type, one.error_code, one.case.asked) for one in verdict.endings)
    return sorted(counts.items(), key=lambda item: (item[0][0], item[0][1] or "", -item[1]))


def _endings(verdict: Verdict) -> Table:
    table = Table("ended with", "", "asked for, and why it ended so", title="How the intents ended")
    table.columns[0].no_wrap = True
    cases: dict[str, Case] = {one.case.asked: one.case for one in verdict.endings}
    wrong = {_key(one) for one in verdict.unexpected}
    for (event, code, asked), count in _grouped(verdict):
        case = cases[asked]
        unexpected = (event, code, asked) in wrong
        words = f"expected: {case.event} {case.error or ''}" if unexpected else case.because
        table.add_row(
            f"{event}\n  {code}" if code else event,
            f"{count:3}",
            f"{asked}: {words}",
            style="red" if unexpected else None,
        )
    return table


def _key(one: Ending) -> tuple[str, str | None, str]:
    return one.event_type, one.error_code, one.case.asked


def _agreement(verdict: Verdict) -> Table:
    report = verdict.report
    table = Table("found", "schedules, in words", title="Postgres, SpiceDB and Temporal compared")
    table.columns[0].no_wrap = True
    if report.agrees:
        table.add_row(
            f"{report.live} live",
            "each has its schedule, its owner alone, its parent agent and its stamp "
            "(none of the three where registration was skipped)",
        )
        table.add_row(f"{report.lanes - report.live} not live", "nothing of ours is left in either store")
    for drift in report.drifts:
        if drift.schedule_id not in verdict.strangers:
            table.add_row(drift.kind, f"{drift.schedule_id}: {drift.detail}", style="red")
    for name in report.busy:
        table.add_row("busy", f"{name}: has intents that have not ended", style="red")
    for name, untouched in verdict.strangers.items():
        table.add_row(
            "a stranger's",
            f"{name}: {'as it was before the outbox came' if untouched else 'was touched'}",
            style="green" if untouched else "red",
        )
    return table


def _next(console: Console, verdict: Verdict, workload: Workload) -> None:
    console.print("\n[bold]What to try next[/] (the servers run on):")
    own = Settings()
    page = f"http://{own.console_host}:{own.console_port}/"
    seen = f"all of this in a browser, at {page}: a parked lane, a dozen failures alike, a schedule gone"
    for command, words in ((_CONSOLE, seen), *hints(verdict, workload)):
        console.print(f"  [cyan]{command}[/]\n      {words}", highlight=False, soft_wrap=True)
