"""Pages that follow what happens: all who watch are told, and together they ask once."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from outbox.console.live import Watch
from outbox.console.server import listening
from outbox.console.shared import Shared
from outbox.stack import StackInfo
from tests.conftest import settings_for
from tests.console.conftest import enqueue, schedule


async def test_all_who_watch_are_told_by_one_look() -> None:
    looks: asyncio.Queue[int] = asyncio.Queue()
    watch = Watch(looks.get, seconds=0.01)
    viewers = [watch.changes(beat=60) for _ in range(5)]
    told = [asyncio.ensure_future(anext(one)) for one in viewers]
    # Were looks each viewer's own, one would not be enough.
    looks.put_nowait(0)
    assert await asyncio.wait_for(asyncio.gather(*told), 60) == [True] * 5
    for one in viewers:
        await one.aclose()
    assert watch._looking is None, "nobody watches any more"


@pytest.mark.parametrize("answered", [0, 1])
async def test_a_database_that_goes_away_is_told_of_after_so_many_looks(answered: int) -> None:
    looks = count()

    async def look() -> int:
        if next(looks) >= answered:
            raise OperationalError("SELECT", {}, Exception("gone"))
        return 0

    watch = Watch(look, seconds=0.01)
    viewer = watch.changes(beat=60)
    assert [await anext(viewer) for _ in range(answered + 1)] == [True] * (answered + 1)
    await viewer.aclose()


async def test_what_changes_while_a_page_is_told_of_another_change_is_told_next() -> None:
    looks: asyncio.Queue[int] = asyncio.Queue()
    watch = Watch(looks.get, seconds=0)
    quick, slow = watch.changes(beat=60), watch.changes(beat=60)
    for number in range(2):
        told = [asyncio.ensure_future(anext(one)) for one in ((quick,) if number else (quick, slow))]
        looks.put_nowait(number)
        assert await asyncio.gather(*told) == [True] * len(told)
    assert await anext(slow)
    for one in (quick, slow):
        await one.aclose()


async def test_watching_ends_when_the_console_does() -> None:
    async def look() -> int:
        return 0

    watch = Watch(look)
    viewer = watch.changes(beat=60)
    told = asyncio.ensure_future(anext(viewer))
    await asyncio.sleep(0)
    watch.end()
    await told
    with pytest.raises(StopAsyncIteration):
        await anext(viewer)


async def test_who_asks_the_same_shares_one_read() -> None:
    reads = count(1)

    async def read() -> int:
        await asyncio.sleep(0)
        return next(reads)

    shared = Shared()
    assert await asyncio.gather(*(shared.get("a", read) for _ in range(5))) == [1] * 5
    assert await shared.get("b", read) == 2
    shared.forget()
    assert await shared.get("a", read) == 3, "what is told of a change is no older than that"


async def lines(client: httpx.AsyncClient) -> AsyncIterator[str]:
    async with client.stream("GET", "/live", timeout=240) as stream:
        async for line in stream.aiter_lines():
            yield line


async def test_a_browser_hears_of_what_is_enqueued(
    stack: StackInfo, as_operator: str, ledger: str, spicedb_schema: None
) -> None:
    del spicedb_schema
    async with listening(settings_for(stack, as_operator), "127.0.0.1", 0) as page:
        serving = asyncio.create_task(page.run())
        async with httpx.AsyncClient(base_url=page.url) as client:
            heard = lines(client)
            assert await anext(heard) == "retry: 3000"
            await client.get("/", headers={"x-follows": "1"})
            names = count()

            async def keep_enqueueing() -> None:
                # The first look may come after the first of them.
                while True:
                    await enqueue(ledger, schedule("followed", f"n{next(names)}"))
                    await asyncio.sleep(0.5)

            enqueueing = asyncio.create_task(keep_enqueueing())
            async for line in heard:
                if line == "event: changed":
                    break
            enqueueing.cancel()
            page.stop()
            # Whoever still watches does not keep it from ending.
            await asyncio.wait_for(serving, 60)
