"""What a step has to do with those of others: what it looked into, kept for itself, and let the others see.

The names in it are those of indexes; of a table, where the whole of it was read. Two steps of which neither
has a name in common with what the other kept or showed come to the same in either order:

- What a statement sees was committed before it began. Another's end matters to it if that wrote a row that is
  in an index that the statement looked into: with a partial index, in the part that the index has.
- What others write meanwhile matters to who wants to write or to lock the same rows, or to add the same key.
- An id that was drawn in a transaction is known to nobody else before its end. So nobody else looks for it,
  and the indexes that are looked into by an intent's id have nothing to do with intents that are new.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.interleaving.instrument import Catalogue, Place
from tests.interleaving.touch import Touch

# What has an order of its own: positions of intents, times that are read, and commits at SERIALIZABLE.
_POSITIONS, _CLOCK, _COMMITS = "the order of intents", "the clock", "the order of commits"
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a step did.

    Attributes:
        reads: it looked into these.
        locks: it wrote or locked rows there, or would have.
        shows: it committed rows there.
        frees: it gave back locks on rows there.
    """

    reads: frozenset[str] = _NOTHING
    locks: frozenset[str] = _NOTHING
    shows: frozenset[str] = _NOTHING
    frees: frozenset[str] = _NOTHING

    def __or__(self, other: "Footprint") -> "Footprint":
        return Footprint(
            self.reads | other.reads,
            self.locks | other.locks,
            self.shows | other.shows,
            self.frees | other.frees,
        )

    def meets(self, other: "Footprint") -> bool:
        """Whether it may matter which of the two comes first."""
        return not self.locks.isdisjoint(other.locks) or self._is_seen_by(other) or other._is_seen_by(self)

    def _is_seen_by(self, other: "Footprint") -> bool:
        return not (
            self.shows.isdisjoint(other.reads)
            and self.shows.isdisjoint(other.locks)
            and self.frees.isdisjoint(other.locks)
        )


class Recorder:
    """Makes the footprints of a session, of what it tells."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._counts: Mapping[str, Mapping[str, int]] = {"scans": {}, "rows": {}}
        self._began = ""
        self._serializable = False
        self._rows: list[Mapping[str, Any]] = []
        self._forget()

    def _forget(self) -> None:
        """Another transaction begins."""
        self._written: frozenset[str] = _NOTHING
        self._locked: frozenset[str] = _NOTHING
        self._made: set[str] = set()
        self._begun = Touch()

    def wrote(self, row: Mapping[str, Any]) -> None:
        """A row was written."""
        self._rows.append(row)

    def at_most(self, place: Place) -> Footprint:
        """What a step may do, while it has not come to its next stop."""
        touch = place.touch | self._begun
        locks = self._catalogue.all_of(touch.adds | touch.changes | touch.locks) | _ordered(place.touch)
        if touch.adds:
            locks |= {_POSITIONS}
        return Footprint(
            self._catalogue.all_of(touch.tables) | place.sees,
            locks,
            shows=self._written if place.ends else _NOTHING,
            frees=self._locked if place.ends else _NOTHING,
        )

    def began(self) -> None:
        """A call begins."""
        self._rows.clear()
        self._forget()

    def stopped(self, place: Place | None, told: Mapping[str, Any]) -> Footprint:
        """What led from a place (None: from the call's beginning) to where the session stops now."""
        anew = told["began"] != self._began
        scanned, filled = (self._grown(told, kind, anew=anew) for kind in ("scans", "rows"))
        self._counts, self._began = {kind: told[kind] or {} for kind in ("scans", "rows")}, told["began"]
        self._serializable = told["isolation"] == "serializable"
        if place is None:
            return Footprint()
        found = self._footprint(place, scanned, filled, ends=anew or place.ends)
        if anew:
            self._forget()
        return found

    def ended(self, place: Place) -> Footprint:
        """What led from a place to the end of the call; if that is not its regular end, it failed there."""
        tables = _NOTHING if place.ends else place.touch.tables | self._begun.tables
        found = self._footprint(place, self._catalogue.all_of(tables), tables, ends=True)
        self._forget()
        return found

    def _grown(self, told: Mapping[str, Any], kind: str, *, anew: bool) -> frozenset[str]:
        """Which counts have grown. With a transaction they may have begun anew: then any that there is."""
        before = {} if anew else self._counts[kind]
        return self._catalogue.known(
            name for name, count in (told[kind] or {}).items() if count != before.get(name, 0)
        )

    def _footprint(
        self, place: Place, scanned: frozenset[str], filled: frozenset[str], *, ends: bool
    ) -> Footprint:
        wrote, locks = self._of_rows()
        touch = place.touch | self._begun
        # Where it found no row it has locked none, and waited for none.
        for table in (touch.changes | touch.locks) & filled:
            whole = self._catalogue.all_of([table])
            # Rows that it locked without writing them may be in any index.
            locks |= whole if table in touch.locks or table in scanned else scanned & whole
        for table in touch.attempts if place.ends or not ends else touch.adds:
            # What somebody else has added already it has waited for, and not written.
            locks |= self._catalogue.keys_of(table) | ({_POSITIONS} if table == "intents" else _NOTHING)
        self._written |= wrote
        self._locked |= (locks - {_POSITIONS}) | place.touch.turns
        if place.touch.calls:
            self._begun |= place.touch
        ordered, shown = _ordered(place.touch), self._written if ends else _NOTHING
        if self._serializable:
            # That one reads what another writes matters before that is committed; and who commits first.
            shown |= wrote
            ordered |= {_COMMITS} if ends else _NOTHING
        frees = self._locked if ends else _NOTHING
        return Footprint(scanned | place.sees, locks | ordered, shows=shown, frees=frees)

    def _of_rows(self) -> tuple[frozenset[str], frozenset[str]]:
        """By which names the rows that were written can be read, and by which they are locked."""
        rows, self._rows = self._rows, []
        new = {row["intent"] for row in rows if row["wrote"] == "intents" and row["adds"]}
        self._made |= new
        wrote, locks = set[str](), {_POSITIONS} if new else set[str]()
        for row in rows:
            entries = {*row["in"], row["wrote"]}
            if row["intent"] in self._made:
                entries -= self._catalogue.of_intents
            wrote |= entries
            locks |= entries & self._catalogue.unique if row["adds"] else entries
        return frozenset(wrote), frozenset(locks)


def _ordered(touch: Touch) -> frozenset[str]:
    return touch.turns | ({_CLOCK} if touch.clock else _NOTHING)
