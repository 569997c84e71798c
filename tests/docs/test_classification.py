"""The page repeats the classification tables row by row."""

from typing import Any

import pytest

from consumers.authz import errors as authz_errors
from consumers.temporal import errors as temporal_errors
from tests.docs.pages import Page


@pytest.mark.parametrize(
    ("rules", "discriminator"), [(authz_errors.RULES, "reason"), (temporal_errors.RULES, "detail")]
)
def test_the_page_has_every_row_in_order(rules: Any, discriminator: str) -> None:
    written = Page("docs/classification.md").table(
        "status", discriminator, "text", "outcome", "code", "meaning", "see"
    )
    assert written == [
        (
            rule.status.name if rule.status else "(no connection)",
            getattr(rule, discriminator) or "-",
            rule.text or "-",
            rule.outcome.__name__,
            rule.code,
            rule.meaning,
            rule.see or "-",
        )
        for rule in rules
    ]
