"""Breaks one rule at a time, and sees that it is noticed: `make mutants`."""

import argparse
import multiprocessing
import sys
import time
from functools import partial
from math import log, log1p

from tests.mutants.judges import by_comparison, by_simulation, preload, share
from tests.mutants.mutant import Mutant, Verdict, all_mutants


def main() -> int:
    """Judge all mutants; 1 if one survives or no longer fits the code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="those whose name holds this text")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--share", type=int, help="in how many of so many seeds is each of Python noticed?")
    parser.add_argument("--from", dest="start", type=int, default=0, help="the first of these seeds")
    options = parser.parse_args()
    started = time.monotonic()
    wanted = [mutant for mutant in all_mutants() if options.only in mutant.name]
    of_sql = [mutant for mutant in wanted if mutant.file.endswith(".sql")]
    of_python = [mutant for mutant in wanted if mutant not in of_sql]
    preload()
    if options.share:
        seeds = range(options.start, options.start + options.share)
        return _measure(of_python, seeds, options.processes)
    failed = 0
    with multiprocessing.get_context("fork").Pool(options.processes, maxtasksperchild=1) as pool:
        # Each share has a Postgres of its own, and they are what takes longest.
        shares = [of_sql[place :: options.processes] for place in range(options.processes)]
        compared = [(share, pool.apply_async(by_comparison, [share])) for share in shares if share]
        for mutant, verdict in zip(of_python, pool.imap(by_simulation, of_python, chunksize=1), strict=True):
            failed += _tell(mutant, verdict)
        for share, verdicts in compared:
            for mutant, verdict in zip(share, verdicts.get(), strict=True):
                failed += _tell(mutant, verdict)
    print(f"{len(wanted) - failed} passed, {failed} failed in {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


def _measure(mutants: list[Mutant], seeds: range, processes: int) -> int:
    """Print in how many of the seeds each mutant is noticed, and of how many seeds one of two notices it."""
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
        noticed = pool.imap(partial(share, seeds=seeds), mutants, chunksize=1)
        for mutant, many in zip(mutants, noticed, strict=True):
            median = f"{log(2) / -log1p(-many / len(seeds)):.1f}" if 0 < many < len(seeds) else "-"
            print(f"{mutant.name:52} | {many:5} of {len(seeds)} | {median}", flush=True)
    return 0


def _tell(mutant: Mutant, verdict: Verdict) -> bool:
    """Print one line of the table; whether the mutant survived."""
    caught = verdict.caught_by or "SURVIVED"
    print(f"{mutant.name:52} | {mutant.rule:62} | {caught:13} | {verdict.told[:100]}", flush=True)
    return verdict.caught_by is None


if __name__ == "__main__":
    sys.exit(main())
