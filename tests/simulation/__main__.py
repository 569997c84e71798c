"""Runs seeds, or replays one: `make simulate ARGS="--seed 1234 --trace"`."""

import argparse
import itertools
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from tests.simulation.reach.cells import Cell
from tests.simulation.reach.report import Reach, missing, tables
from tests.simulation.run import Result, run_seed

_CHUNK = 20
_SHOWN = 3


def main() -> int:
    """Run what was asked for; 1 if a rule was broken, or a reason why something can't happen."""
    options = _options()
    if options.seed is not None:
        return _replay(options.seed, trace=options.trace)
    started = time.monotonic()
    until = started + options.minutes * 60 if options.minutes else None
    seeds: Iterable[int] = itertools.count(options.start)
    if until is None:
        seeds = range(options.start, options.start + options.seeds)
    ran, bad, cells = 0, [], Counter[Cell]()
    for result in _results(seeds, until, options.processes):
        ran += 1
        cells.update(result.cells)
        if result.violations:
            bad.append(result)
            print(f"seed {result.seed}: {result.violations[0]}", flush=True)
        if len(bad) >= options.give_up:
            break
    for result in sorted(bad, key=lambda one: one.seed)[:_SHOWN]:
        _replay(result.seed, trace=True)
    is_as_told = _tell(Reach(ran, cells), whole=options.reach)
    seconds = time.monotonic() - started
    print(f"{ran} seeds from {options.start} on, {ran / seconds:.0f} a second")
    print(f"{ran - len(bad)} passed, {len(bad)} failed in {seconds:.0f} s")
    return 0 if is_as_told and not bad else 1


def _tell(reach: Reach, *, whole: bool) -> bool:
    """Say what was reached, if somebody asked; whether nothing was that can't be."""
    if whole:
        for line in itertools.chain(tables(reach), ["", "Not reached:"], missing(reach)):
            print(line)
    for line in reach.disproved:
        print(f"reached, though it can't be: {line}")
    return not reach.disproved


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--from", dest="start", type=int, default=0, help="the first of them")
    parser.add_argument("--minutes", type=float, help="go on for so long instead, seed after seed")
    parser.add_argument("--reach", action="store_true", help="print which cells they reached, and which not")
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
