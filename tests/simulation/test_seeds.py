"""A share of the simulation, and that a seed is all there is to a run; `make simulate` runs more seeds."""

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.run import run_seed

ROOT = Path(__file__).parents[2]
SEEDS = 100  # `make simulate` runs 2,000, on every core


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


def test_no_seed_breaks_a_rule() -> None:
    done = simulate("--seeds", str(SEEDS))
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert f"{SEEDS} passed, 0 failed" in done.stdout


def test_a_seed_replays_line_by_line_in_any_process() -> None:
    first, again = (simulate("--seed", "5", "--trace", hash_seed=seed) for seed in ("1", "2"))
    assert len(first.stdout.splitlines()) > 50
    assert first.stdout == again.stdout


def test_a_history_tells_who_did_what() -> None:
    told = "\n".join(run_seed(5, traced=True).trace)
    for words in ("a producer asks: create", "committed:", "postgres: worker", "settle schedule."):
        assert words in told
