"""What a flood of notifications may cost."""

import asyncio

from outbox.store.notifier import Paced
from tests.simulation.loop import SimulatedLoop


def test_a_flood_is_one_call_now_and_one_at_the_end_of_each_pause() -> None:
    times: list[float] = []

    async def flood() -> None:
        loop = asyncio.get_running_loop()
        told = Paced(0.25, lambda: times.append(loop.time()))
        for _ in range(10):
            for _ in range(1000):
                told()
            await asyncio.sleep(0.0625)
        await asyncio.sleep(60)
        told()

    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(1)) as runner:
        runner.run(flood())
    # The last of the flood is heard after it, and what comes after a rest is heard at once.
    assert times == [0.0, 0.25, 0.5, 0.75, 60.625]
