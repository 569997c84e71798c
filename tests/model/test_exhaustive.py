"""Every state that a lane can reach with up to two faults, within the late-write bound and beyond it.

With three where something is adopted: what goes wrong there takes an attempt in doubt, a read that is behind,
and another attempt in doubt.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumers.authz.effects import AuthzEffects, registration
from consumers.repair import RepairEffects
from consumers.temporal.effects import TemporalEffects
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Conflict, Done, Outcome
from outbox.flow.table import Kind
from tests.model import attempt, lane
from tests.model.explore import Broken, Scenario, explore
from tests.model.scenarios import scenarios

SCENARIOS = list(scenarios())


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture
def _forgetful() -> Iterator[None]:
    """What a mutated rule answers is not remembered for other tests."""
    attempt.run.cache_clear()
    yield
    attempt.run.cache_clear()


@pytest.mark.parametrize("bounded", [True, False], ids=["within", "beyond"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_invariants_hold_in_every_state(scenario: Scenario, *, bounded: bool) -> None:
    found = explore(scenario, faults=3 if asks_for(Kind.REPAIR, scenario) else 2, bounded=bounded)
    assert found.broken is None, "\n".join((found.broken.invariant, *found.broken.trace))
    assert found.states > 500
    assert found.rests > 0


def asks_for(kind: Kind, scenario: Scenario) -> bool:
    return any(entry.kind is kind for entry in scenario.entries)


def first_broken(*, faults: int = 2, bounded: bool = True, kind: Kind = Kind.CREATE) -> Broken | None:
    """Of the scenarios in which this kind of intent is asked for."""
    asked = (one for one in SCENARIOS if asks_for(kind, one))
    found = (explore(one, faults=faults, bounded=bounded).broken for one in asked)
    return next((broken for broken in found if broken), None)


@pytest.mark.usefixtures("_forgetful")
class TestWithoutARule:
    """The exploration sees what each rule is there for."""

    def test_without_the_mark_a_late_registration_gives_a_former_owner_access(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def mark(self: Any, schedule_id: str, stamp: str, call: Any) -> Any:
            return await self._remove(schedule_id, stamp, call)

        monkeypatch.setattr(AuthzEffects, "_mark_ended_and_remove", mark)
        broken = first_broken(bounded=False)
        assert broken
        assert broken.invariant.startswith("I5")
        assert broken.trace[-1].startswith("late: spicedb write owner@alice")

    def test_a_delete_that_does_not_look_removes_what_is_somebody_elses(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def delete(self: Any, dispatch: Dispatch, call: Any) -> Outcome:
            await self._client.delete(dispatch.schedule_id, call)
            return Done()

        monkeypatch.setattr(TemporalEffects, "_delete", delete)
        broken = first_broken(faults=0)
        assert broken
        assert broken.invariant == "I2: a schedule of somebody else was removed"

    def test_without_a_hold_between_intents_a_late_create_comes_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ends = lane._end
        monkeypatch.setattr(lane, "_end", lambda *of: replace(ends(*of), hold=False))
        broken = first_broken()
        assert broken
        assert broken.invariant == "I4: created before it was registered"

    def test_without_repairs_a_call_beyond_the_bound_leaves_the_stores_apart(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ends = lane._end
        monkeypatch.setattr(lane, "_end", lambda *of: replace(ends(*of), verify=0))
        broken = first_broken(bounded=False)
        assert broken
        assert broken.invariant.startswith("I1")

    def test_a_repair_that_believes_a_read_that_is_behind_leaves_a_schedule_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def explain(self: Any, dispatch: Dispatch, call: Any) -> Outcome:
            holding = await self._read(dispatch.schedule_id, call)
            if registration(dispatch) <= holding.tuples:
                return Done(holding.zed_token)
            outcome: Outcome = await self._clear(dispatch, holding, call)
            return outcome

        monkeypatch.setattr(AuthzEffects, "_explain", explain)
        broken = first_broken(bounded=False)
        assert broken
        assert broken.invariant.startswith("I1")
        assert any(step.startswith("look: behind") for step in broken.trace)

    @pytest.mark.parametrize("bounded", [True, False], ids=["within", "beyond"])
    def test_an_adoption_taken_back_by_an_attempt_may_be_adopted_by_the_next_and_loses_its_owner(
        self, monkeypatch: pytest.MonkeyPatch, *, bounded: bool
    ) -> None:
        as_it_is = RepairEffects.apply

        async def takes_back(self: RepairEffects, dispatch: Dispatch) -> Outcome:
            outcome = await as_it_is(self, dispatch)
            return await self.look(dispatch) if isinstance(outcome, Conflict) else outcome

        monkeypatch.setattr(RepairEffects, "apply", takes_back)
        broken = first_broken(faults=3, bounded=bounded, kind=Kind.REPAIR)
        assert broken
        assert broken.invariant == "I2: relationships of somebody else were removed"
        assert any(step.startswith("look: behind") for step in broken.trace)

    def test_without_a_look_at_the_revision_a_late_update_of_a_former_schedule_stays(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def leaves(self: Any, dispatch: Dispatch, found: Any) -> None:
            del self, dispatch, found

        monkeypatch.setattr(RepairEffects, "_bring_back", leaves)
        broken = first_broken(bounded=False, kind=Kind.UPDATE)
        assert broken
        assert broken.invariant.startswith("I6")
        assert any(step.startswith("late: temporal update") for step in broken.trace)

    def test_repairs_of_what_was_updated_need_its_definition(self, monkeypatch: pytest.MonkeyPatch) -> None:
        as_it_is = lane.dispatch

        def from_the_create_alone(of: lane.Lane, entries: tuple[lane.Entry, ...]) -> Dispatch:
            asked = as_it_is(of, entries)
            if asked.kind is not Kind.REPAIR or of.live is None:
                return asked
            return replace(asked, request={**asked.request, "definition": (of.live,)})

        monkeypatch.setattr(attempt, "dispatch", from_the_create_alone)
        broken = first_broken(bounded=False, kind=Kind.UPDATE)
        assert broken
        assert broken.invariant.startswith("I6")
