"""`make bench`: runs the rows that are asked for, prints a table, writes .bench/results.json."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog

from tests.bench import (
    against,
    audit,
    capacity,
    changes,
    commands,
    console,
    depth,
    draining,
    growth,
    intake,
    memory,
    stores,
    transactional,
    unprepared,
    verifying,
    watched,
    wire,
)
from tests.bench.measure import Result, save
from tests.bench.report import table
from tests.bench.stage import SCALES, Stage, machine, open_stage

Row = Callable[[Stage], Awaitable[list[Result]]]

ROWS: Mapping[str, Row] = {
    "P1": intake.single,
    "P1b": intake.batches,
    "P1c": transactional.enqueues,
    "P2": against.procrastinate,
    "P2b": against.unordered,
    "P2c": draining.two_steps,
    "P3": stores.converge,
    "P4": stores.latency,
    "P5": depth.any_depth,
    "P6": draining.statements,
    "P7": memory.draining,
    "P8": wire.kafka,
    "P9": audit.agreement,
    "P10": commands.answers,
    "P11": growth.growth,
    "P12": watched.overhead,
    "P13": console.watched,
    "P14": unprepared.unprepared,
    "P15": capacity.capacity,
    "P16": changes.coalesced,
    "P17": verifying.verified,
}
OF_PEERS = frozenset({"P1c", "P2", "P2b"})
RESULTS = Path(".bench/results.json")


async def run(stage: Stage, names: list[str], *, busy: bool) -> list[Result]:
    """Run rows one after another; busy: the machine does other work."""
    results: list[Result] = []
    for name in names:
        found = await ROWS[name](stage)
        save(found, machine(stage, busy=busy), RESULTS)
        results += found
        print(table(found), flush=True)
    return results


def quiet() -> None:
    """Log as a worker in production would of steps that are done: nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def main() -> int:
    """Exit 0 if each row came to a figure, whether or not it reached its goal."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("rows", nargs="*", default=[], help=f"which: {', '.join(ROWS)} (default: all)")
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument(
        "--busy", action="store_true", help="the machine does other work: the page will say so"
    )
    options = parser.parse_args()
    names = [*options.rows] or list(ROWS)
    if unknown := set(names) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    quiet()
    with open_stage(SCALES[options.scale]) as stage:
        results = asyncio.run(run(stage, names, busy=options.busy))
    print(f"\n{table(results)}\n\nwritten to {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
