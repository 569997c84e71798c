"""A share of the simulation, and that a seed is all there is to a run; `make simulate` runs more seeds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.reach.coarse import all_coarse, coarse
from tests.simulation.reach.never import reason_against
from tests.simulation.run import Result, run_seed

ROOT = Path(__file__).parents[2]
SEEDS = 250  # `make simulate` runs 2,000, on every core
# What may be reached, and is in fewer than one of 25 seeds: these need not have come to it.
SELDOM = set(
    """\
a look: misconfigured
a look: no outcome
ask for a repair: an adopted schedule lives
authz: Postgres did not answer
authz: late beyond the bound
both: Postgres did not answer
both: answer lost
both: its worker was told to end
both: late beyond the bound
both: lost
both: overloaded
both: reset after
both: reset, then applied beyond the bound
both: server error after
both: server error before
both: twice
conflict: dropped
conflict: never settled
conflict: split
discard: an adopted schedule lives
discard: its head is none
done, skipped: dropped
done, skipped: never settled
done: dropped
enqueue a create: an adopted schedule lives
enqueue a delete: an adopted schedule lives
enqueue an update: an adopted schedule lives
halt a store: an adopted schedule lives
halt the schedule: an adopted schedule lives
misconfigured: dropped
misconfigured: never settled
prune: an adopted schedule lives
prune: pruned
reclaim: an adopted schedule lives
refused: dropped
release a store: an adopted schedule lives
release the schedule: an adopted schedule lives
replay by force: an adopted schedule lives
replay: an adopted schedule lives
schedule.compensation_requested: an adopted schedule lives
schedule.compensation_requested: misconfigured
schedule.compensation_requested: no outcome
schedule.compensation_requested: transient
schedule.create.requested (look): a schedule lives
schedule.create.requested (look): an adopted schedule lives
schedule.delete.requested (look): a schedule lives
schedule.delete.requested (look): an adopted schedule lives
schedule.delete.requested (look): nothing lives
schedule.delete.requested: misconfigured
schedule.registered: misconfigured
schedule.registered: no outcome
schedule.registration_skipped (look): nothing lives
schedule.registration_skipped: conflict
schedule.registration_skipped: misconfigured
schedule.registration_skipped: no outcome
schedule.registration_skipped: transient
schedule.repair.requested (look): a schedule lives
schedule.repair.requested (look): an adopted schedule lives
schedule.unscheduled: misconfigured
schedule.unscheduled: no outcome
schedule.update.requested (look): an adopted schedule lives
schedule.update.requested: conflict
schedule.update.requested: misconfigured
schedule.update.requested: no outcome
temporal: Postgres did not answer
temporal: answer lost
temporal: late beyond the bound
temporal: reset, then applied beyond the bound
temporal: server error before
temporal: twice
transient: advance
transient: dropped
transient: hold
transient: never settled
unknown: never settled
""".splitlines()
)


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [run_seed(seed) for seed in range(SEEDS)]


def simulate(*arguments: str, hash_seed: str = "random") -> subprocess.CompletedProcess[str]:
    """Run the command without coverage, which would more than double its time."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        env=environment | {"PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )


def test_no_seed_breaks_a_rule(results: list[Result]) -> None:
    """The history of one that does: make simulate ARGS='--seed 7 --trace'."""
    assert {one.seed: one.violations for one in results if one.violations} == {}


def test_no_seed_reaches_what_nothing_can(results: list[Result]) -> None:
    reached = {cell: one.seed for one in results for cell in one.cells}
    told = {str(cell): (reason_against(cell), seed) for cell, seed in reached.items()}
    assert {cell: one for cell, one in told.items() if one[0] is not None} == {}


def test_few_seeds_reach_what_few_must(results: list[Result]) -> None:
    """Of each step and store what may happen and come of it, and each act on lanes in each state."""
    reached = {name for one in results for cell in one.cells for name in coarse(cell)}
    assert sorted(all_coarse() - SELDOM - reached) == []


def test_what_is_seldom_may_be_reached() -> None:
    assert sorted(SELDOM - all_coarse()) == []


def test_a_seed_replays_line_by_line_in_any_process() -> None:
    first, again = (simulate("--seed", "5", "--trace", hash_seed=seed) for seed in ("1", "2"))
    assert len(first.stdout.splitlines()) > 50
    assert first.stdout == again.stdout


def test_a_run_goes_on_from_where_it_is_told() -> None:
    """And says what it reached."""
    done = simulate("--from", "1000", "--seeds", "3", "--processes", "1", "--reach")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    for told in ("3 seeds from 1000 on", "| of 3 seeds |", "Not reached:", "3 passed, 0 failed"):
        assert told in done.stdout


def test_a_history_tells_who_did_what() -> None:
    told = "\n".join(run_seed(5, traced=True).trace)
    for words in ("a producer asks: create", "committed:", "postgres: worker", "settle schedule."):
        assert words in told
