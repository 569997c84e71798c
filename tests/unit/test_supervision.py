"""What runs beside a loop: started again whenever it raises, and never without a word."""

import asyncio
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from outbox import supervision
from outbox.supervision import keep_running


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(supervision, "_LONGEST_PAUSE_SECONDS", 0.004)


async def test_what_raises_is_told_and_started_again_until_it_returns() -> None:
    endings: Iterator[Exception | None] = iter(
        [KeyError("a"), OSError("b"), ValueError("c"), OSError("d"), None]
    )

    async def run() -> None:
        if (error := next(endings)) is not None:
            raise error

    with capture_logs() as logs:
        await keep_running("audit", run)
    assert list(endings) == []
    assert [(line["event"], line["task"], line["log_level"]) for line in logs] == [
        ("task.failed", "audit", "error")
    ] * 4
    assert [line["again_in_seconds"] for line in logs] == [0.001, 0.002, 0.004, 0.004]
    assert all(line["exc_info"] for line in logs)


async def test_once_told_to_stop_it_starts_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_FIRST_PAUSE_SECONDS", 600.0)
    stopping, raised = asyncio.Event(), asyncio.Event()
    started = 0

    async def run() -> None:
        nonlocal started
        started += 1
        raised.set()
        raise OSError("away")

    with capture_logs():
        going = asyncio.create_task(keep_running("publisher", run, stopping=stopping))
        await raised.wait()
        stopping.set()
        await going
    assert started == 1


async def test_cancelling_it_cancels_what_runs() -> None:
    begun, cancelled = asyncio.Event(), False

    async def run() -> None:
        nonlocal cancelled
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    going = asyncio.create_task(keep_running("notifier", run))
    await begun.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert cancelled
