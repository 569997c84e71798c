"""``python -m tests.model [FAULTS]``: explore all scenarios, within the late-write bound and beyond it."""

import logging
import sys
import time

import structlog

from tests.model.explore import explore
from tests.model.scenarios import scenarios


def main(faults: int) -> int:
    """Print what each scenario took; the exit code is how many broke an invariant."""
    total = broken = 0
    for scenario in scenarios():
        for bounded in (True, False):
            started = time.monotonic()
            found = explore(scenario, faults=faults, bounded=bounded)
            total += found.states
            took = f"{found.states:11,} states {found.rests:7,} at rest {time.monotonic() - started:6.1f} s"
            print(f"{took}  {'within' if bounded else 'beyond'} the bound: {scenario.name}", flush=True)
            if found.broken:
                broken += 1
                print("  " + "\n    ".join((found.broken.invariant, *found.broken.trace)))
    print(f"{total:,} states with up to {faults} faults, {broken} scenarios broken")
    return min(broken, 1)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2))
