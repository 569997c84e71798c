"""SpiceDB's reads are behind, as those of replicas may be, whatever consistency they ask for."""

import asyncio
import random

from tests.simulation.world import BUSY_SECONDS, World


async def lag(world: World) -> None:
    """In some seeds, each read is behind by a time of its own, until everybody comes to rest.

    What reads see may go back in time, too: the next one may ask another replica.
    """
    # Not from the seed's dice: the other seeds stay as they are.
    if world.seed % 7 != 3:
        return
    dice = random.Random(world.seed)
    longest = dice.choice([0.5, 2.0, 8.0])
    world.spicedb.lag = lambda: dice.choice([0.0, longest, dice.uniform(0.0, longest)])
    await asyncio.sleep(BUSY_SECONDS)
    world.spicedb.lag = lambda: 0.0
