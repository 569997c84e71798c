"""The shipped schema, its check and its merge: as text, under random schemas, and on a SpiceDB of its own."""

import pytest
from authzed.api.v1 import CheckPermissionRequest, CheckPermissionResponse, Consistency
from authzed.api.v1.permission_service_pb2_grpc import PermissionsServiceStub
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.authz import schema as authz_schema
from consumers.authz.client import AuthzClient, Match, Tuple
from consumers.authz.names import RESOURCE_TYPES, definition_of
from consumers.authz.schema import Problem, diff, merge, problems_in, required
from consumers.authz.schema_text import SchemaTextError, parse, tokens
from consumers.calls import Call, StoreFailure
from outbox.errors import ErrorCode
from outbox.flow.outcome import Transient

reproducible = settings(derandomize=True, deadline=None)

PLATFORM = """use expiration

/** user is ours. } */
definition user {}

caveat at_night(hour int, zone string) {
\thour < 6 || zone == "}" || zone == 'definition agent_schedule {'
}

definition acme/agent_schedule {
\trelation zone: user with expiration
}

// An agent { as we know it }.
definition agent {
\trelation maker: user // {
\tpermission read = maker
\tpermission update = maker
}

definition agent_schedule {
\trelation owner: user // who made it
\trelation parent_agent: agent
\trelation watcher: user with at_night

\tpermission read = owner + watcher
}
"""


def where(found: list[Problem]) -> list[str]:
    return [problem.where for problem in found if not problem.note]


def is_within(text: str, longer: str) -> bool:
    rest = iter(longer)
    return all(character in rest for character in text)


def test_the_public_type_has_its_definition() -> None:
    assert definition_of("schedule") == "agent_schedule"
    assert set(RESOURCE_TYPES.values()) <= set(parse(required()).definitions)


def test_nothing_merges_to_the_shipped_schema() -> None:
    assert merge("") == required()
    assert problems_in(required()) == []
    assert where(problems_in("")) == ["user", "service_account", "agent", "outbox_intent", "agent_schedule"]


def test_a_platforms_schema_gets_what_it_lacks_and_keeps_what_it_has() -> None:
    assert where(problems_in(PLATFORM)) == [
        "service_account",
        "outbox_intent",
        "agent_schedule#owner",
        "agent_schedule#editor",
        "agent_schedule#reader",
        "agent_schedule#registered_by",
        "agent_schedule#update",
        "agent_schedule#delete",
    ]
    merged = merge(PLATFORM)
    changes = [line for line in diff(PLATFORM, merged).splitlines()[2:] if line[0] in "+-"]
    assert changes == [
        "-\trelation owner: user // who made it",
        "+\trelation owner: user | service_account // who made it",
        "+    relation editor: user | service_account",
        "+    relation reader: user | service_account",
        "+    relation registered_by: outbox_intent",
        "+    permission update = (owner + editor) & parent_agent->update",
        "+    permission delete = (owner + editor) & parent_agent->update",
        "+",
        "+/** service_account acts on the platform without a person. */",
        "+definition service_account {}",
        "+",
        "+/** outbox_intent is one request to the outbox; it is the stamp on what it writes. */",
        "+definition outbox_intent {",
        "+    // Set before a registration of the intent is undone, so that none of it can land any more.",
        "+    relation ended: outbox_intent",
        "+}",
    ]
    assert where(problems_in(merged)) == []
    assert merge(merged) == merged
    assert [problem.where for problem in problems_in(merged)] == ["agent_schedule#read"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("permission owner = reader", "agent_schedule#owner"),
        ("relation delete: user", "agent_schedule#delete"),
    ],
)
def test_a_name_that_is_taken_otherwise_is_for_the_platform_to_mend(body: str, problem: str) -> None:
    [found] = [p for p in problems_in(f"definition agent_schedule {{\n{body}\n}}") if p.where == problem]
    assert not found.fixable
    assert "rename it" in found.fix


def test_an_agent_without_the_permissions_is_for_the_platform_to_mend() -> None:
    current = "definition agent {\n relation read: user\n}\n"
    [found] = [problem for problem in problems_in(current) if problem.where.startswith("agent#")]
    assert (found.where, found.fixable, found.note) == ("agent#update", False, False)
    assert merge(current).startswith(current)


@pytest.mark.parametrize(
    ("subjects", "added"),
    [
        ("user | service_account", ""),
        ("user#... | service_account", ""),
        ("service_account | user with at_night", " | user"),
        ("user:* | service_account", " | user"),
        ("acme/user | group#member | user", " | service_account"),
    ],
)
def test_a_relation_is_widened_by_the_plain_types_it_lacks(subjects: str, added: str) -> None:
    current = (
        f"definition agent_schedule {{\n relation owner: {subjects};\n @deprecated(x) relation other: a\n}}"
    )
    assert f"relation owner: {subjects}{added};\n @deprecated" in merge(current)


def test_what_a_partial_brings_is_there_but_not_ours_to_widen() -> None:
    current = "partial common {\n relation owner: user\n}\ndefinition agent_schedule {\n ...common\n}\n"
    merged = merge(current)
    assert merged.count("relation owner: user\n") == 1
    [found] = [problem for problem in problems_in(merged) if problem.where == "agent_schedule#owner"]
    assert not found.fixable
    assert "partial" in found.fix


def test_additions_do_not_run_into_each_other() -> None:
    merged = merge("definition agent_schedule {relation owner: user}")
    assert "{relation owner: user | service_account\n    relation editor" in merged


@pytest.mark.parametrize("text", ["definition agent_schedule {", "caveat x() { /* } */"])
def test_what_is_no_schema_is_not_merged(text: str) -> None:
    with pytest.raises(SchemaTextError, match="never closed"):
        merge(text)


@reproducible
@given(st.text(alphabet=st.sampled_from("ab/*\"'\\{}\n\r.->#| :é")))
def test_tokens_lose_nothing(text: str) -> None:
    assert "".join(token.text for token in tokens(text)) == text


GAPS = st.sampled_from([" ", "\n", "\r\n", "\n\n", " // } { \n", " /* definition user { */ ", "\t"])
SUBJECTS = st.sampled_from(
    ["user", "service_account", "agent#read", "user:*", "user with at_night", "acme/user"]
)
NAMES = [
    "owner",
    "editor",
    "reader",
    "parent_agent",
    "registered_by",
    "ended",
    "read",
    "update",
    "delete",
    "zone",
]


@st.composite
def schemas(draw: st.DrawFn) -> str:
    """Schemas as platforms might have them, written as badly as the grammar allows."""
    definitions = [
        "user",
        "service_account",
        "agent",
        "agent_schedule",
        "outbox_intent",
        "acme/agent",
        "other",
    ]
    pieces = [draw(st.sampled_from(["", "use expiration\n", "caveat c(a string) { a == '}' }\n"]))]
    for name in draw(st.lists(st.sampled_from(definitions), unique=True)):
        pieces += [draw(GAPS), f"definition {name} {{", draw(GAPS)]
        for member in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6)):
            if draw(st.booleans()):
                subjects = " | ".join(draw(st.lists(SUBJECTS, min_size=1, max_size=3, unique=True)))
                pieces += [f"relation {member}: {subjects}", draw(GAPS)]
            else:
                pieces += [f"permission {member} = nil", draw(GAPS)]
        pieces += ["}", draw(GAPS)]
    return "".join(pieces)


@reproducible
@given(schemas())
def test_a_merge_only_adds_and_is_done_at_once(current: str) -> None:
    merged = merge(current)
    assert is_within(current, merged)
    assert merge(merged) == merged
    assert [problem for problem in problems_in(merged) if problem.fixable] == []
    before, after = parse(current), parse(merged)
    assert [name for name in after.definitions if name in before.definitions] == list(before.definitions)
    for name, block in before.definitions.items():
        kept = list(after.definitions[name].members)[: len(block.members)]
        assert kept == list(block.members)
        if name not in {"agent_schedule", "outbox_intent"}:
            assert after.definitions[name].members.keys() == block.members.keys()


GARBAGE = ["definition ", "agent_schedule", " {", "}", "relation ", "permission ", "owner", ":", "user", "\n"]


@reproducible
@given(st.lists(st.sampled_from(GARBAGE)).map("".join))
def test_garbage_is_carried_along_or_refused(text: str) -> None:
    try:
        merged = merge(text)
    except SchemaTextError:
        return
    assert is_within(text, merged)


class Consent:
    """Agrees to every diff, and keeps it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, change: str) -> bool:
        self.seen.append(change)
        return True


async def test_apply_brings_an_empty_server_to_the_shipped_schema(blank: AuthzClient) -> None:
    assert len(await authz_schema.check(blank, seconds=5)) == 5
    applied = await authz_schema.apply(blank, lambda _: True, seconds=5)
    assert applied.written
    assert applied.problems == []
    again = await authz_schema.apply(blank, lambda _: pytest.fail("there is nothing to confirm"), seconds=5)
    assert (again.diff, again.written, again.problems) == ("", False, [])


async def test_apply_adds_to_a_platforms_schema(blank: AuthzClient) -> None:
    await blank.write_schema(PLATFORM, Call.within(5))
    consent = Consent()
    applied = await authz_schema.apply(blank, consent, seconds=5)
    assert consent.seen == [applied.diff]
    assert "+    relation registered_by: outbox_intent" in applied.diff
    assert where(applied.problems) == []
    text = await blank.read_schema(Call.within(5))
    assert "relation watcher: user with at_night" in text
    assert "definition acme/agent_schedule" in text
    assert merge(text) == text


async def test_apply_writes_nothing_without_consent(blank: AuthzClient) -> None:
    applied = await authz_schema.apply(blank, lambda _: False, seconds=5)
    assert not applied.written
    assert applied.diff
    assert await blank.read_schema(Call.within(5)) == ""


async def test_apply_starts_over_when_the_schema_changes_meanwhile(
    blank: AuthzClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read_schema = blank.read_schema

    async def changing(call: Call) -> str:
        nonlocal reads
        reads += 1
        if reads == 2:
            await blank.write_schema("definition platform_own {}", call)
        return await read_schema(call)

    monkeypatch.setattr(blank, "read_schema", changing)
    consent = Consent()
    applied = await authz_schema.apply(blank, consent, seconds=5)
    assert applied.written
    assert len(consent.seen) == 2
    assert "definition platform_own {}" in await read_schema(Call.within(5))


async def test_apply_gives_up_when_others_keep_writing(
    blank: AuthzClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = iter(range(100))

    async def restless(_call: Call) -> str:
        return f"definition version_{next(versions)} {{}}\n"

    monkeypatch.setattr(blank, "read_schema", restless)
    with pytest.raises(StoreFailure) as caught:
        await authz_schema.apply(blank, lambda _: True, seconds=5)
    assert isinstance(caught.value.outcome, Transient)
    assert caught.value.outcome.code is ErrorCode.RACED


async def permitted(client: AuthzClient, permission: str, user: str) -> bool:
    request = CheckPermissionRequest(consistency=Consistency(fully_consistent=True), permission=permission)
    ParseDict({"objectType": "agent_schedule", "objectId": "a--s"}, request.resource)
    ParseDict({"object": {"objectType": "user", "objectId": user}}, request.subject)
    stub = PermissionsServiceStub(client._channel)
    answer = await stub.CheckPermission(request, metadata=(("authorization", "Bearer token"),))
    return bool(answer.permissionship == CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION)


@pytest.mark.parametrize(
    ("on_schedule", "on_agent", "permissions"),
    [
        ("owner", "owner", {"read", "update", "delete"}),
        ("editor", "editor", {"read", "update", "delete"}),
        ("owner", "reader", {"read"}),
        ("reader", "owner", {"read"}),
        ("owner", None, set()),
        (None, "owner", set()),
    ],
)
async def test_permissions_need_the_schedule_and_the_agent(
    blank: AuthzClient, on_schedule: str | None, on_agent: str | None, permissions: set[str]
) -> None:
    await authz_schema.apply(blank, lambda _: True, seconds=5)
    held = [Tuple("agent_schedule", "a--s", "parent_agent", "agent", "a")]
    if on_schedule:
        held.append(Tuple("agent_schedule", "a--s", on_schedule, "user", "uma"))
    if on_agent:
        held.append(Tuple("agent", "a", on_agent, "user", "uma"))
    await blank.touch(held, Call.within(5))
    try:
        found = {name for name in ("read", "update", "delete") if await permitted(blank, name, "uma")}
        assert found == permissions
    finally:
        for resource in {(t.resource_type, t.resource_id) for t in held}:
            await blank.delete(Match(*resource), (), Call.within(5))
