"""Has the functions of the outbox stop before each of their statements, and say what these did.

Every statement of a volatile function in PL/pgSQL sees what was committed before it began. So what happens
when two of them meet is decided by the order of their statements, and by who waits for whose locks.

What a statement did is told by Postgres itself: its statistics say which indexes (or whole tables) were
looked into, triggers say which rows were written, and in which indexes these are.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from tests.interleaving.body import leaves, statements
from tests.interleaving.touch import Touch, Touches

MOST_SESSIONS = 4
TOLD = "stepper "
"""What begins the notices by which sessions tell what they do: JSON follows."""
SNAPSHOT = "snapshot"
"""Where a producer stops whose transaction will see throughout what is there when it goes on."""
_PRODUCERS_READ = frozenset({"intents", "queue"})

# A session that has no number passes. Its two locks take turns, so that it can't run through both; a sequence
# says whose turn it is, as what a failed block had set would be forgotten.
_STOP = """
    CREATE SCHEMA stepper;
    CREATE FUNCTION stepper.scans() RETURNS jsonb LANGUAGE sql VOLATILE BEGIN ATOMIC
        SELECT jsonb_object_agg(c.relname, pg_stat_get_xact_numscans(c.oid))
          FROM pg_class c
         WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'i')
           AND pg_stat_get_xact_numscans(c.oid) > 0;
    END;
    CREATE FUNCTION stepper.rows() RETURNS jsonb LANGUAGE sql VOLATILE BEGIN ATOMIC
        SELECT jsonb_object_agg(c.relname, pg_stat_get_xact_tuples_returned(c.oid)
                   + pg_stat_get_xact_tuples_fetched(c.oid) + (
                       SELECT coalesce(sum(pg_stat_get_xact_tuples_fetched(i.indexrelid)), 0)
                         FROM pg_index i WHERE i.indrelid = c.oid))
          FROM pg_class c
         WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind = 'r';
    END;
    CREATE FUNCTION stepper.at(place text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        me CONSTANT integer := nullif(current_setting('stepper.me', true), '')::integer;
        turn integer;
    BEGIN
        IF me IS NOT NULL THEN
            turn := nextval('stepper.turn_' || me) % 2;
            RAISE NOTICE USING MESSAGE = 'stepper ' || jsonb_build_object(
                'at', place, 'turn', turn, 'began', transaction_timestamp(),
                'isolation', current_setting('transaction_isolation'),
                'scans', stepper.scans(), 'rows', stepper.rows())::text;
            PERFORM pg_catalog.pg_advisory_lock(me, turn);
            PERFORM pg_catalog.pg_advisory_unlock(me, turn);
        END IF;
    END $$;
"""
_FUNCTIONS = """
    SELECT p.proname AS name, l.lanname = 'plpgsql' AND p.provolatile = 'v' AS steps, p.prosrc AS body,
           pg_get_functiondef(p.oid) AS definition
      FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
     WHERE p.pronamespace = 'outbox'::regnamespace AND p.prokind = 'f' ORDER BY p.proname
"""
_VIEWS = """
    SELECT c.relname, pg_get_viewdef(c.oid) FROM pg_class c
     WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind = 'v'
"""
# Not of operations: nobody acts upon what is written there, and only who has a row's id changes it.
_INDEXES = """
    SELECT t.relname AS "table", c.relname AS name, i.indisunique AS is_unique, a.attname AS leading,
           pg_get_expr(i.indpred, i.indrelid) AS predicate
      FROM pg_class t
      LEFT JOIN pg_index i ON i.indrelid = t.oid
      LEFT JOIN pg_class c ON c.oid = i.indexrelid
      LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
     WHERE t.relnamespace = 'outbox'::regnamespace AND t.relkind = 'r' AND t.relname <> 'operations'
     ORDER BY 1, 2
"""
# What an intent is known by, in the tables that have rows of intents.
_IDS = {"intents": "id"} | dict.fromkeys(
    ("events", "attempts", "queue", "failures", "publications"), "intent_id"
)
_TRIGGER = """
    CREATE FUNCTION stepper.wrote_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('stepper.me', true) <> '' THEN
            RAISE NOTICE USING MESSAGE = 'stepper ' || jsonb_build_object(
                'wrote', '{table}', 'adds', TG_OP = 'INSERT', 'intent', {intent},
                'in', array_remove({entries}, NULL))::text;
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER stepper AFTER INSERT OR UPDATE OR DELETE ON outbox.{table}
       FOR EACH ROW EXECUTE FUNCTION stepper.wrote_{table}();
"""
_ENTRY = """CASE WHEN (SELECT {predicate} FROM (SELECT OLD.*) AS r)
                   OR (SELECT {predicate} FROM (SELECT NEW.*) AS r) THEN '{name}' END"""
# How long a look took decides where the next ones begin. Here none does, so that an order can be repeated.
_FLOORS, _LONG, _NEVER_LONG = "floors", "IF took < 1000 THEN", "IF took IS NOT NULL THEN"


@dataclass(frozen=True, slots=True)
class Place:
    """Where sessions stop.

    Attributes:
        touch: what the statement that begins there has to do with tables, as its text says.
        ends: a call ends, and what it has done is committed.
        sees: by these names, all that follows in the transaction reads what is there now.
    """

    touch: Touch
    ends: bool = False
    sees: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What there is in a database to read and to write.

    Attributes:
        places: by their names.
        indexes: of each table.
        unique: those of them that keep two from adding the same.
        of_intents: those of them that are looked into by the id of an intent.
    """

    places: Mapping[str, Place]
    indexes: Mapping[str, frozenset[str]]
    unique: frozenset[str]
    of_intents: frozenset[str]

    def keys_of(self, table: str) -> frozenset[str]:
        """The indexes that keep two from adding the same to a table, of what more than one may know."""
        return (self.indexes[table] & self.unique) - self.of_intents

    def all_of(self, tables: Iterable[str]) -> frozenset[str]:
        """By which names something in these tables is read or written."""
        return frozenset().union(*(self.indexes[one] | {one} for one in tables if one in self.indexes))

    def known(self, names: Iterable[str]) -> frozenset[str]:
        """Those of these names that say something."""
        return self.all_of(self.indexes) & frozenset(names)


async def instrument(line: psycopg.AsyncConnection[Any], called: Collection[str]) -> Catalogue:
    """Put stops into the functions of a database, and triggers beside its tables.

    Args:
        line: to it, as the owner.
        called: the functions that are called from outside, each in a transaction of its own.
    """
    await line.execute(_STOP)
    for session in range(1, MOST_SESSIONS + 1):
        await line.execute(f"CREATE SEQUENCE stepper.turn_{session}".encode())
    indexes = await (await line.execute(_INDEXES)).fetchall()
    tables: dict[str, frozenset[str]] = {}
    for table, name, *_ in indexes:
        tables[table] = tables.get(table, frozenset()) | ({name} if name else set())
    await _watch(line, indexes)
    places = await _stops(line, called, tables.keys())
    catalogue = Catalogue(
        places,
        tables,
        unique=frozenset(name for _, name, is_unique, *_ in indexes if is_unique),
        of_intents=frozenset(name for table, name, _, leading, _ in indexes if _IDS.get(table) == leading),
    )
    places[SNAPSHOT] = Place(Touch(), sees=catalogue.all_of(_PRODUCERS_READ))
    return catalogue


async def _watch(line: psycopg.AsyncConnection[Any], indexes: Collection[tuple[Any, ...]]) -> None:
    entries: dict[str, list[str]] = {}
    for table, name, _, _, predicate in indexes:
        found = entries.setdefault(table, [])
        if name:
            found.append(_ENTRY.format(name=name, predicate=predicate) if predicate else f"'{name}'")
    for table, names in entries.items():
        known = _IDS.get(table)
        intent = f"coalesce(NEW.{known}, OLD.{known})" if known else "NULL"
        array = f"ARRAY[{', '.join(names)}]::text[]"
        await line.execute(_TRIGGER.format(table=table, intent=intent, entries=array).encode())


async def _stops(
    line: psycopg.AsyncConnection[Any], called: Collection[str], tables: Collection[str]
) -> dict[str, Place]:
    functions = await (await line.execute(_FUNCTIONS)).fetchall()
    stopping = {name for name, steps, *_ in functions if steps and name != _FLOORS}
    bodies = dict(await (await line.execute(_VIEWS)).fetchall())
    for name, _, body, definition in functions:
        if name not in stopping:
            bodies[name] = bodies.get(name, "") + (body or definition.partition("\n")[2])
    touches = Touches(bodies, tables, stopping)
    places: dict[str, Place] = {}
    for name, _, body, definition in functions:
        if name == _FLOORS:
            assert _LONG in definition
            await line.execute(definition.replace(_LONG, _NEVER_LONG).encode())
        elif name in stopping:
            found = _places(name, body, touches, ends=name in called)
            changed = body
            for place, offset in reversed(found):
                changed = f"{changed[:offset]}PERFORM stepper.at('{place}'); {changed[offset:]}"
            places |= {place: found[place, offset] for place, offset in found}
            await line.execute(definition.replace(body, changed).encode())
    return places


def _places(name: str, body: str, touches: Touches, *, ends: bool) -> dict[tuple[str, int], Place]:
    """Where a function stops, in the order of its text: the names of the places, and where they are in it."""
    found: dict[tuple[str, int], Place] = {}
    last: tuple[str, int] | None = None
    catches = "EXCEPTION WHEN" in body
    for number, (offset, statement) in enumerate(statements(body)):
        touch = touches.of(statement)
        if catches:
            touch = replace(touch, attempts=touch.adds)
        is_end = ends and leaves(statement)
        if touch.tables or touch.turns or touch.calls or is_end:
            last = (f"{name}:{number}", offset)
            found[last] = Place(touch, ends=is_end)
        elif last and touch.clock:
            # It goes on to this one without a stop.
            found[last] = replace(found[last], touch=found[last].touch | Touch(clock=True))
    return found
