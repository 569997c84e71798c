"""Runs seeds, or replays one: `make simulate ARGS="--seed 1234 --trace"`."""

import argparse
import itertools
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator

from tests.simulation.run import Result, run_seed

_CHUNK = 20
_SHOWN = 3


def main() -> int:
    """Run what was asked for; 1 if a rule was broken."""
    options = _options()
    if options.seed is not None:
        return _replay(options.seed, trace=options.trace)
    started = time.monotonic()
    until = started + options.minutes * 60 if options.minutes else None
    seeds: Iterable[int] = itertools.count(options.first)
    if until is None:
        seeds = range(options.first, options.first + options.seeds)
    ran, bad = 0, []
    for result in _results(seeds, until, options.processes):
        ran += 1
        if result.violations:
            bad.append(result)
            print(f"seed {result.seed}: {result.violations[0]}", flush=True)
        if len(bad) >= options.give_up:
            break
    for result in sorted(bad, key=lambda one: one.seed)[:_SHOWN]:
        _replay(result.seed, trace=True)
    print(f"{ran - len(bad)} passed, {len(bad)} failed in {time.monotonic() - started:.0f} s")
    return 1 if bad else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--minutes", type=float, help="go on for so long instead, seed after seed")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="of the one seed: print its history")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--give-up", type=int, default=10, help="end after so many failed")
    return parser.parse_args()


def _results(seeds: Iterable[int], until: float | None, processes: int) -> Iterator[Result]:
    """Run seeds side by side, as long as there is time."""
    in_time = itertools.takewhile(lambda _: until is None or time.monotonic() < until, seeds)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        if until is None:
            yield from pool.imap_unordered(run_seed, in_time, chunksize=_CHUNK)
            return
        # An endless supply has to be asked for bit by bit.
        while chunk := list(itertools.islice(in_time, _CHUNK * processes)):
            yield from pool.imap_unordered(run_seed, chunk, chunksize=_CHUNK)


def _replay(seed: int, *, trace: bool) -> int:
    result = run_seed(seed, traced=trace)
    print(f"\nseed {seed}: replay with  make simulate ARGS='--seed {seed} --trace'")
    for line in result.trace:
        print(line)
    for violation in result.violations:
        print(f"seed {seed}: {violation}")
    print(f"seed {seed}: {'broke a rule' if result.violations else 'holds'}")
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
