"""``python -m tests.chaos``: campaigns on the real servers; exit 1 if an invariant did not hold."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos.campaign import Campaign, run, slowed
from tests.chaos.recorder import keep
from tests.chaos.report import report

_ALSO = ("kafka", "pooler", "rolling", "clock", "spicedb_on_postgres")


def main() -> int:
    """Run the campaigns and print their reports."""
    parser = argparse.ArgumentParser(prog="make chaos ARGS=…", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first campaign")
    parser.add_argument("--campaigns", type=int, default=1, help="how many, each with the next seed")
    parser.add_argument("--intents", type=int, default=2000, help="about how many a campaign asks for")
    parser.add_argument("--rounds", type=int, default=5, help="how often each kind of trouble is made")
    parser.add_argument("--workers", type=int, default=3, help="processes of outbox run at a time")
    parser.add_argument("--kafka", action="store_true", help="on the Kafka wire, with two relays")
    parser.add_argument(
        "--pooler", action="store_true", help="by way of a PgBouncer; nothing takes over then"
    )
    parser.add_argument("--rolling", action="store_true", help="workers of the version before among them")
    parser.add_argument("--clock", action="store_true", help="Postgres' clock is set forward, hour by hour")
    parser.add_argument(
        "--spicedb-on-postgres",
        action="store_true",
        help="SpiceDB has a Postgres of its own, not its memory: for many lanes",
    )
    parser.add_argument(
        "--slower",
        type=float,
        default=1.0,
        help="times of the workers, so many times as long: for many lanes",
    )
    parser.add_argument("--keep", type=Path, help="a folder that keeps the stack's data and the logs")
    asked = parser.parse_args()
    broken = 0
    for seed in range(asked.seed, asked.seed + asked.campaigns):
        commands = ("run",) * asked.workers + ("relay", "relay") * asked.kafka
        more = {name: getattr(asked, name) for name in _ALSO}
        times = slowed(asked.slower)
        campaign = Campaign(seed, asked.intents, asked.rounds, commands=commands, times=times, **more)
        flags = "".join(f" --{name.replace('_', '-')}" for name, wanted in more.items() if wanted)
        flags += f" --slower {asked.slower:g}" if asked.slower != 1 else ""
        again = f"--seed {seed} --intents {asked.intents} --rounds {asked.rounds}{flags}"
        print(f"seed {seed}: make chaos ARGS='{again}'")
        with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
            home = asked.keep / str(seed) if asked.keep else Path(temporary)
            home.mkdir(parents=True, exist_ok=True)
            result = asyncio.run(run(campaign, home))
            kept = keep(result.recorded, campaign.name)
        print(report(result) + "\n", flush=True)
        print(f"what clients asked and were told: make judge ARGS={kept}\n", flush=True)
        for story in result.stories():
            print(story + "\n", flush=True)
        broken += bool(result.violations or result.miscounted)
    print(f"{asked.campaigns - broken} passed, {broken} failed")
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main())
