"""Whatever is sent to the API, it answers as its own document says: told by Schemathesis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from outbox.console.api import OPERATIONS
from outbox.stack import StackInfo
from tests.console.conftest import enqueue, schedule, served
from tests.console.test_access import TOKEN, TOKENS, bearer

EXAMPLES = 8
# What a query or a path has in it is text, so that a wrong value may be sent as a right one; and whether a
# halt's end is still to come is nothing that a document could say.
_NOT_TOLD: dict[str, list[Any]] = {
    "GET": [negative_data_rejection],
    "/api/v1/hold": [positive_data_acceptance],
}


@pytest.fixture(scope="module")
async def url(stack: StackInfo, ledger: str, as_operator: str, spicedb_schema: None) -> AsyncIterator[str]:
    del spicedb_schema
    await enqueue(ledger, *(schedule("fuzzed", f"n{number}") for number in range(3)))
    async with served(stack, as_operator, **TOKENS) as address:
        yield address


def fuzz(operation: APIOperation[Any, Any, Any, Any], url: str, mode: GenerationMode) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(
            base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=not_told
        )

    not_told = _NOT_TOLD.get(operation.method.upper(), []) + _NOT_TOLD.get(operation.path, [])
    run()


@pytest.mark.campaign(seconds=15)
async def test_whatever_is_sent_is_answered_as_the_document_says(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, headers=bearer(TOKEN)) as client:
        document = (await client.get("/api/v1/openapi.json")).json()
    found = schemathesis.openapi.from_dict(document).get_all_operations()
    operations = [one.ok() for one in found if isinstance(one, Ok)]
    assert len(operations) == len(OPERATIONS)
    for operation in operations:
        for mode in GenerationMode:
            if mode.is_positive or operation.query or operation.body:
                await asyncio.to_thread(fuzz, operation, url, mode)
