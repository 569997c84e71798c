"""Workers whose TLS or credentials are wrong: nothing ends, nothing is lost, and right ones go on."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from outbox import Intent
from outbox.compose.checks import check_spicedb, check_temporal, require_ready
from outbox.errors import StoreUnusable
from outbox.stack import Stack
from outbox.stack.state import State
from tests.pipeline.harness import Pipeline
from tests.pipeline.ledger import until
from tests.stack.containers import ContainerStack
from tests.tls.credentials import Authority, Pair, ask_for_certificates, ask_for_key

CREDENTIALS = "OUTBOX_TEMPORAL_API_KEY, _TLS_CERT"


def trusting(authority: Authority) -> dict[str, Any]:
    return {"spicedb_tls": True, "spicedb_tls_ca": authority.file, "temporal_tls_ca": authority.file}


@pytest.fixture
def right(authority: Authority) -> dict[str, Any]:
    """The settings with which both stores are reached."""
    return trusting(authority)


class Batch:
    """A create, whose first step is SpiceDB's, and a delete, whose first step is Temporal's."""

    def __init__(self, pipeline: Pipeline, create: Intent, delete: Intent) -> None:
        self._ledger = pipeline.ledger
        self._create, self._delete = create, delete

    @classmethod
    async def enqueue(cls, pipeline: Pipeline) -> "Batch":
        return cls(pipeline, await pipeline.create(), await pipeline.delete("live"))

    async def await_trouble(self, at_spicedb: str | None, at_temporal: str) -> None:
        """Wait until an attempt at each says this of its store."""
        if at_spicedb is not None:
            await until(f"{at_spicedb} of the create", lambda: self._said(self._create, at_spicedb))
        await until(f"{at_temporal} of the delete", lambda: self._said(self._delete, at_temporal))

    async def _said(self, intent: Intent, words: str) -> bool:
        attempts = await self._ledger.attempts(intent.id)
        return any(words in f"{one['error_code']}: {one['error_message']}" for one in attempts)

    async def assert_untouched(self) -> None:
        """Neither has ended, nor come nearer to being parked."""
        heads = await self._ledger.rows("SELECT * FROM outbox.queue")
        assert {head["intent_id"] for head in heads} == {self._create.id, self._delete.id}
        assert {head["strikes"] for head in heads} == {0}

    async def await_ends(self) -> None:
        await self._ledger.await_event(self._create.id, "created")
        await self._ledger.await_event(self._delete.id, "deleted")


@pytest.mark.parametrize(
    ("fault", "at_spicedb", "at_temporal"),
    [
        ("authority", "(see OUTBOX_SPICEDB_TLS_CA)", "(see OUTBOX_TEMPORAL_TLS_CA)"),
        ("no tls", "(see OUTBOX_SPICEDB_TLS)", "(see OUTBOX_TEMPORAL_TLS_CA, _TLS_CERT, _API_KEY)"),
        ("tls", "(see OUTBOX_SPICEDB_TLS)", "(see OUTBOX_TEMPORAL_TLS_CA, _TLS_CERT, _API_KEY)"),
    ],
    ids=["authority", "no tls", "tls"],
)
async def test_wrong_settings_end_no_intent_and_right_ones_go_on(
    pipeline: Pipeline,
    right: dict[str, Any],
    stranger: Authority,
    *,
    fault: str,
    at_spicedb: str,
    at_temporal: str,
) -> None:
    in_the_clear = {
        "spicedb_endpoint": pipeline.spicedb.target,
        "temporal_address": pipeline.temporal.target,
    }
    wrong = {"authority": trusting(stranger), "no tls": {}, "tls": {**right, **in_the_clear}}
    await pipeline.create("live")
    await pipeline.work(**right)
    batch = await Batch.enqueue(pipeline)
    async with pipeline.working(**wrong[fault]):
        await batch.await_trouble(at_spicedb, at_temporal)
    await batch.assert_untouched()
    await pipeline.work(**right)
    await batch.await_ends()
    await pipeline.agree()


@pytest.mark.parametrize(
    ("fault", "at_spicedb", "at_temporal"),
    [
        ("expired", "(see OUTBOX_SPICEDB_TLS_CA)", "(see OUTBOX_TEMPORAL_TLS_CA)"),
        ("name", "(see OUTBOX_SPICEDB_ENDPOINT)", "(see OUTBOX_TEMPORAL_ADDRESS)"),
        # Of a client that was connected, nothing tells this from a server that restarts again and again.
        ("asked", "(see OUTBOX_SPICEDB_TLS)", "connection_lost"),
    ],
    ids=["expired", "name", "asked"],
)
async def test_what_servers_do_while_a_worker_runs_costs_time_alone(
    pipeline: Pipeline,
    right: dict[str, Any],
    authority: Authority,
    *,
    context: ssl.SSLContext,
    temporal_context: ssl.SSLContext,
    fault: str,
    at_spicedb: str,
    at_temporal: str,
) -> None:
    shown: dict[str, Callable[[], Pair]] = {
        "expired": lambda: authority.issue(expired=True),
        "name": lambda: authority.issue("other.example"),
        "asked": authority.issue,
    }
    live = await pipeline.create("live")
    async with pipeline.working(**right):
        await pipeline.ledger.await_event(live.id, "created")
        for one in (context, temporal_context):
            one.load_cert_chain(*shown[fault]())
            if fault == "asked":
                ask_for_certificates(one, authority)
        pipeline.spicedb.cut_connections()
        pipeline.temporal.cut_connections()
        batch = await Batch.enqueue(pipeline)
        await batch.await_trouble(at_spicedb, at_temporal)
        await batch.assert_untouched()

        for one in (context, temporal_context):
            one.verify_mode = ssl.CERT_NONE
            one.load_cert_chain(*authority.issue())
        await batch.await_ends()
    await pipeline.agree()


async def test_a_client_by_its_certificate_and_an_api_key_that_is_changed(
    pipeline: Pipeline, right: dict[str, Any], authority: Authority, temporal_context: ssl.SSLContext
) -> None:
    ask_for_certificates(temporal_context, authority)
    ask_for_key(pipeline.temporal, "old-key")
    certificate, key = authority.issue()
    right |= {"temporal_tls_cert": certificate, "temporal_tls_key": key}
    live = await pipeline.create("live")
    async with pipeline.working(**right, temporal_api_key=SecretStr("old-key")):
        await pipeline.ledger.await_event(live.id, "created")
        ask_for_key(pipeline.temporal, "new-key")
        batch = await Batch.enqueue(pipeline)
        await batch.await_trouble(None, "(see OUTBOX_TEMPORAL_API_KEY, _TLS_CERT)")
    await batch.assert_untouched()
    assert not await pipeline.ledger.rows("SELECT FROM outbox.attempts WHERE error_message ~ 'old-key'")
    await pipeline.work(**right, temporal_api_key=SecretStr("new-key"))
    await batch.await_ends()
    await pipeline.agree()


async def test_a_token_that_is_changed_while_workers_run(
    pipeline: Pipeline, right: dict[str, Any], running_stack: Stack | ContainerStack
) -> None:
    if isinstance(running_stack, ContainerStack):
        pytest.skip("its SpiceDB forgets all when it starts again")
    old, new = pipeline.settings.spicedb_token, SecretStr("the-new-token")
    assert old is not None
    ledger = pipeline.ledger

    async def refused(name: str) -> Intent:
        intent = await pipeline.create(name)
        await ledger.await_attempt(intent.id, "misconfigured")
        assert await ledger.events(intent.id) == ["create.requested"]
        return intent

    try:
        async with pipeline.working(**right, spicedb_token=new):
            first = await refused("first")
            # What it has becomes right, and it goes on.
            await asyncio.to_thread(start_spicedb_with, running_stack, new)
            await ledger.await_event(first.id, "created")
            await asyncio.to_thread(start_spicedb_with, running_stack, old)
            second = await refused("second")
        async with pipeline.working(**right):
            await ledger.await_event(second.id, "created")
    finally:
        if State.load(running_stack.home).token != old.get_secret_value():
            await asyncio.to_thread(start_spicedb_with, running_stack, old)
    told = await ledger.rows("SELECT error_message FROM outbox.attempts WHERE error_code = 'misconfigured'")
    assert all(one["error_message"].endswith("(see OUTBOX_SPICEDB_TOKEN)") for one in told)
    assert not [one for one in told if new.get_secret_value() in one["error_message"]]
    await pipeline.agree()


def start_spicedb_with(stack: Stack, token: SecretStr) -> None:
    """Start SpiceDB again, with another token."""
    state = State.load(stack.home)
    state.token = token.get_secret_value()
    state.save(stack.home)
    stack.stop("spicedb")
    stack.start("spicedb")


async def test_doctor_and_a_worker_that_starts_name_the_settings(
    pipeline: Pipeline, right: dict[str, Any], stranger: Authority
) -> None:
    good = pipeline.settings.model_copy(update=right)
    await require_ready(good, None)
    bad = pipeline.settings.model_copy(update=trusting(stranger))
    for store, (finding,) in (("SPICEDB", await check_spicedb(bad)), ("TEMPORAL", await check_temporal(bad))):
        assert finding.reachable
        assert f"(see OUTBOX_{store}_TLS_CA)" in str(finding.problem)
    with pytest.raises(StoreUnusable, match="see OUTBOX_SPICEDB_TLS_CA") as refusal:
        await require_ready(bad, None)
    assert refusal.value.reachable
    # In the clear, it can't be told from a server that is away: a worker starts, says so, and waits.
    for store, (finding,) in (
        ("SPICEDB", await check_spicedb(pipeline.settings)),
        ("TEMPORAL", await check_temporal(pipeline.settings)),
    ):
        assert not finding.reachable
        assert f"(see OUTBOX_{store}_TLS" in str(finding.problem)
    await require_ready(pipeline.settings, None)
