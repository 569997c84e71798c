"""What a look from the start leaves behind that took long, for tests that can't make one last."""

_FIRST_DUE = """(SELECT (extract(epoch FROM min(h.due_at)) * 1000000)::bigint FROM outbox.queue h
                  WHERE h.consumer = '{}' AND h.state NOT IN ('queued', 'parked') AND NOT h.halted)"""


def long_look(*, ago: float = 0.0, lasts: float = 60.0, incoming: str = "0", above_all: bool = False) -> str:
    """Make the statement after which such a look has been.

    Args:
        ago: so many seconds ago; negative: by a clock that has been set back since.
        lasts: so many seconds after it the next look from the start is due.
        incoming: the position that is the floor of what comes in.
        above_all: the floors of heads are above all that is due now, as if that had been committed late.
            Nothing that a look has seen is below its floors.
    """
    floors = ", ".join(
        f"setval('outbox.floor_{consumer}', {'look.now' if above_all else least})"
        for consumer in ("authz", "temporal", "both")
        for least in (f"least(look.at - 1000000, {_FIRST_DUE.format(consumer)})",)
    )
    return f"""
        WITH clock AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now),
             look AS (SELECT c.now, c.now - {round(ago * 1e6)} AS at FROM clock c)
        SELECT {floors}, setval('outbox.floor_incoming', {incoming}),
               setval('outbox.placed_due',
                      (SELECT greatest(look.at - 1000000, CASE WHEN p.due <= look.now THEN p.due END)
                         FROM pg_sequence_last_value('outbox.placed_due') AS p (due))),
               setval('outbox.last_look', look.at),
               setval('outbox.next_look', look.at + {round(lasts * 1e6)})
          FROM look
    """
