"""All that is played."""

from tests.interleaving import of_operators, of_producers, of_workers

SCENARIOS = (*of_workers.SCENARIOS, *of_operators.SCENARIOS, *of_producers.SCENARIOS)
