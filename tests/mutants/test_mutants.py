"""The list of mutants fits the code; whether each is caught is for `make mutants`, which takes longer."""

from collections import Counter

import pytest

from tests.mutants.mutant import Mutant, all_mutants


@pytest.mark.parametrize("mutant", all_mutants(), ids=lambda one: one.name)
def test_the_line_that_a_mutant_changes_is_there_once(mutant: Mutant) -> None:
    assert mutant.source()
    assert mutant.old != mutant.new


def test_each_mutant_has_a_name_of_its_own() -> None:
    names = Counter(mutant.name for mutant in all_mutants())
    assert max(names.values()) == 1
