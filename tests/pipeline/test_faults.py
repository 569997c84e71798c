"""Every step of create, update and delete meets every fault; afterwards the stores agree.

The steps of one fault run side by side, each in a lane of its own.
"""

import pytest
from grpc import StatusCode as Status

from outbox.testing import Armed, FaultProxy, Late
from tests.pipeline.harness import Pipeline
from tests.pipeline.scenes import SITES, Arm, When, set_the_scenes

# Long enough for a loaded machine, short enough for time-outs to be quick.
QUICK = {"step_timeout_seconds": 1.0, "lease_seconds": 1.5, "late_write_seconds": 0.4}


def fails(status: Status) -> Arm:
    return lambda proxy, method, when: proxy.fail(method, status=status, when=when)


def loses(status: Status | None) -> Arm:
    return lambda proxy, method, when: proxy.lose_reply(method, status=status, when=when)


def delays(seconds: float, *, after_effect: bool) -> Arm:
    return lambda proxy, method, when: proxy.delay(method, seconds, after_effect=after_effect, when=when)


def cuts(*, after_effect: bool, reset: bool) -> Arm:
    return lambda proxy, method, when: proxy.cut(method, after_effect=after_effect, reset=reset, when=when)


FAULTS: dict[str, Arm] = {
    "fail-unavailable": fails(Status.UNAVAILABLE),
    "fail-exhausted": fails(Status.RESOURCE_EXHAUSTED),
    "fail-internal": fails(Status.INTERNAL),
    "swallow": lambda proxy, method, when: proxy.swallow(method, when=when),
    "lose-unavailable": loses(Status.UNAVAILABLE),
    "lose-silently": loses(None),
    "cut-before": cuts(after_effect=False, reset=False),
    "cut-after": cuts(after_effect=True, reset=True),
    "delay-before": delays(0.3, after_effect=False),
    "delay-beyond-the-deadline": delays(1.2, after_effect=True),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_step_survives(pipeline: Pipeline, fault: str) -> None:
    scenes = await set_the_scenes(pipeline, FAULTS[fault], SITES)
    await pipeline.work(**QUICK)
    for scene in scenes:
        assert isinstance(scene.fault, Armed)
        assert scene.fault.calls, f"{scene.name}: the fault was not met"
        await scene.ends_as_without_faults(pipeline)
    await pipeline.agree()


@pytest.mark.parametrize("status", [Status.DEADLINE_EXCEEDED, None], ids=["timed-out", "unanswered"])
async def test_each_request_may_arrive_when_its_lane_has_moved_on(
    pipeline: Pipeline, status: Status | None
) -> None:
    def late(proxy: FaultProxy, method: str, when: When) -> Late:
        return proxy.apply_late(method, status=status, when=when)

    # A delete in Temporal has no condition, and an update of one schedule has the tokens of the next: nothing
    # but the hold stands between them and the next create.
    scenes = await set_the_scenes(pipeline, late, SITES, without={"delete", "update"})
    await pipeline.work(**QUICK)
    await pipeline.agree()
    for scene in scenes:
        assert isinstance(scene.fault, Late)
        assert scene.fault.held.is_set(), f"{scene.name}: the fault was not met"
        await scene.ends_as_without_faults(pipeline)
        await scene.fault.release()
        await scene.fault.release()
    await pipeline.agree()
