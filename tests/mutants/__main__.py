"""Breaks one rule at a time, and sees that it is noticed: `make mutants`."""

import argparse
import multiprocessing
import sys
import time

from tests.mutants.judges import by_comparison, by_simulation, preload
from tests.mutants.mutant import Mutant, Verdict, all_mutants


def main() -> int:
    """Judge all mutants; 1 if one survives or no longer fits the code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="those whose name holds this text")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    started = time.monotonic()
    wanted = [mutant for mutant in all_mutants() if options.only in mutant.name]
    of_sql = [mutant for mutant in wanted if mutant.file.endswith(".sql")]
    of_python = [mutant for mutant in wanted if mutant not in of_sql]
    preload()
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


def _tell(mutant: Mutant, verdict: Verdict) -> bool:
    """Print one line of the table; whether the mutant survived."""
    caught = verdict.caught_by or "SURVIVED"
    print(f"{mutant.name:52} | {mutant.rule:62} | {caught:13} | {verdict.told[:100]}", flush=True)
    return verdict.caught_by is None


if __name__ == "__main__":
    sys.exit(main())
