"""The benchmarks run and check their own results; at these sizes their figures mean nothing."""

import pytest

from outbox.stack import StackInfo
from tests.bench import against
from tests.bench.__main__ import OF_PEERS, ROWS
from tests.bench.stage import SCALES, stage_of


@pytest.mark.campaign(seconds=2)
@pytest.mark.parametrize("name", ROWS)
async def test_a_row_comes_to_a_result(stack: StackInfo, name: str, request: pytest.FixtureRequest) -> None:
    if name in OF_PEERS and not against.available():
        pytest.skip("the peers' environment is not there: `make bench` makes it")
    for result in await ROWS[name](
        stage_of(stack, SCALES["smoke"], lambda: str(request.getfixturevalue("kafka")))
    ):
        assert result.ratio > 0
        assert result.to_json()["id"].split("/")[0] == name
