"""Updates of live schedules: what is live has a definition, which updates change.

Expands only: what workers, relays and producers of the version before call is still there, and no update is
handed to a worker that does not know any. docs/upgrading.md says in which order processes follow.
"""

import re
from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"

PARTS = (
    "tables",
    "validation",
    "questions",
    "claiming",
    "settling",
    "dispatching",
    "publishing",
    "auditing",
)
# Functions that are made anew, in another shape.
REPLACED = {
    "validation": (
        "create_error",
        "create_contradiction",
        "unknown_fields",
        "request_error",
        "without_nulls",
    ),
    "questions": ("steps",),
    "claiming": ("choose", "claim"),
    "settling": ("settle",),
    "dispatching": ("dispatch", "take"),
    "auditing": ("audited_lanes",),
}
# Whoever might call the one may call the other.
SUCCEEDS = {"unpublished": "to_publish"}

_GRANTEES = text("""
    SELECT p.proname, quote_ident(pg_get_userbyid(a.grantee)) AS role
      FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) AS a
     WHERE p.pronamespace = 'outbox'::regnamespace AND p.proname = ANY (:names)
       AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner)
""")
_SIGNATURE = text("""
    SELECT p.oid::regprocedure::text FROM pg_proc p
     WHERE p.pronamespace = 'outbox'::regnamespace AND p.proname = :name
""")
_UPDATED = text("""
    SELECT EXISTS (SELECT FROM outbox.intents i WHERE i.kind = 'update')
        OR EXISTS (SELECT FROM outbox.lanes l WHERE l.revision IS NOT NULL)
""")


def upgrade() -> None:
    granted = grantees()
    for part in PARTS:
        run(script_of(revision, part))
    grant(granted + [(SUCCEEDS[name], role) for name, role in granted if name in SUCCEEDS])
    op.execute("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox FROM PUBLIC")


def downgrade() -> None:
    if op.get_bind().scalar(_UPDATED):
        raise RuntimeError(
            "schedules have been updated, and the version before knows no updates: "
            "prune what has ended, and delete what was updated; or stay"
        )
    granted = grantees()
    run(script_of(revision, "drop"))
    for part, names in REPLACED.items():
        for name in names:
            put_back(down_revision, part, name)
    run(script_of(revision, "drop_what_those_used"))
    grant(granted)
    op.execute("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox FROM PUBLIC")


def grantees() -> list[tuple[str, str]]:
    """Which roles may call what is about to be made anew: that takes their right away."""
    names = [name for names in REPLACED.values() for name in names] + [*SUCCEEDS]
    return [(row.proname, row.role) for row in op.get_bind().execute(_GRANTEES, {"names": names})]


def grant(granted: list[tuple[str, str]]) -> None:
    """Let the same roles call what has taken the functions' places; what has none is nobody's."""
    for name, role in granted:
        signature = op.get_bind().scalar(_SIGNATURE, {"name": name})
        if signature is not None:
            op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {role}")


def script_of(of: str, part: str) -> str:
    return (SQL / f"{of}_{part}.sql").read_text("utf-8")


def put_back(of: str, part: str, name: str) -> None:
    """Make a function again what a revision's script has it be."""
    was = definition(script_of(of, part), name)
    run(was.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))


def definition(script: str, name: str) -> str:
    """The statement of a script that creates a function."""
    begin = re.search(rf"^CREATE FUNCTION outbox\.{name}\(", script, re.MULTILINE)
    if begin is None:
        raise LookupError(f"no function outbox.{name}")
    rest = script[begin.start() :]
    head = rest[: rest.index(";")]
    end = r"^(END )?\$\$;$" if "AS $$" in head else r"^END;$" if "BEGIN ATOMIC" in head else r";$\n(?=\n|\Z)"
    found = re.search(end, rest, re.MULTILINE)
    if found is None:
        raise LookupError(f"the end of outbox.{name} was not found")
    return rest[: found.end()]


def run(script: str) -> None:
    # Straight to the driver: it takes a script of several statements, and leaves its % alone.
    op.get_bind().connection.cursor().execute(script)
