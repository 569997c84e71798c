"""Named points: inert unless armed, and armed they do what they were armed with."""

import re
from collections.abc import Iterator

import pytest

from outbox import failpoints
from outbox.failpoints import POINTS, reach
from outbox.testing import FailpointError, arm_from, armed, fail
from tests.docs.pages import ROOT, Page


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    for point in POINTS:
        failpoints.disarm(point)


async def test_a_point_that_is_not_armed_does_nothing() -> None:
    for point in POINTS:
        await reach(point)


async def test_a_point_is_armed_for_as_long_as_the_block_lasts() -> None:
    with armed("settle.before", fail("now")):
        await reach("settle.after")
        with pytest.raises(FailpointError, match="now"):
            await reach("settle.before")
    await reach("settle.before")


async def test_a_point_armed_from_text_is_inert_until_its_pass() -> None:
    arm_from("apply.after=fail@3, take.after=fail")
    await reach("apply.after")
    await reach("apply.after")
    for _ in range(2):
        with pytest.raises(FailpointError):
            await reach("apply.after")
    with pytest.raises(FailpointError):
        await reach("take.after")


async def test_a_point_may_fail_once_and_be_inert_from_then_on() -> None:
    arm_from("audit.before=fail-once@2")
    await reach("audit.before")
    with pytest.raises(FailpointError):
        await reach("audit.before")
    await reach("audit.before")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("settle.befor=exit", "there is no failpoint settle.befor: take.after, apply.before"),
        ("settle.before", "settle.before is not point=action"),
        ("settle.before=explode", "settle.before=explode is not point=action"),
        ("settle.before=exit@often", "settle.before=exit@often is not point=action"),
    ],
)
def test_what_is_misspelt_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        arm_from(text)


def test_every_point_is_passed_somewhere_and_no_other_is() -> None:
    sources = [path for part in ("outbox", "consumers") for path in (ROOT / part).rglob("*.py")]
    passed = {
        name for path in sources for name in re.findall(r'\breach\("([^"]+)"\)', path.read_text("utf-8"))
    }
    assert passed == set(POINTS)


def test_the_page_lists_every_point() -> None:
    assert Page("docs/testing.md").table("point", "at that moment") == list(POINTS.items())
