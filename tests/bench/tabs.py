"""Five live tabs of the console, as its script has them; a process of its own, to take no worker's time.

``python -m tests.bench.tabs URL`` says ``open`` when all of them hear of changes; after SIGTERM, how many
pages they have read.
"""

import asyncio
import signal
import sys
from collections import Counter

import httpx

PAGES = ("/", "/failures", "/intents", "/intents?status=failed", "/operations")


async def main() -> None:
    """Keep them open until SIGTERM; a tab that fails ends all."""
    read: Counter[str] = Counter()
    opened = asyncio.Semaphore(0)

    async def tab(path: str) -> None:
        """Read the page, and again whenever something has changed."""
        async with client.stream("GET", "/live", timeout=None) as events:
            async for line in events.aiter_lines():
                if line.startswith(("retry:", "event:")):
                    (await client.get(path, headers={"x-follows": "1"})).raise_for_status()
                    read[path] += 1
                if line.startswith("retry:"):
                    opened.release()

    async with httpx.AsyncClient(base_url=sys.argv[1], timeout=60) as client, asyncio.TaskGroup() as tabs:
        open_now = [tabs.create_task(tab(path)) for path in PAGES]
        for _ in open_now:
            await opened.acquire()
        sys.stdout.write("open\n")
        sys.stdout.flush()
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        await ended.wait()
        for one in open_now:
            one.cancel()
    sys.stdout.write(f"{read.total()}\n")


if __name__ == "__main__":
    asyncio.run(main())
