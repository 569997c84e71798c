"""Writes the measured parts of docs/performance.md, and its picture.

They come from docs/performance.json, which keeps each row as it was measured last, and on what; rows of
.bench/results.json take their places there first.
"""

import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

MEASURED = Path(".bench/results.json")
KEPT = Path("docs/performance.json")
PAGE = Path("docs/performance.md")
PICTURE = Path("docs/performance.svg")

TITLES: Mapping[str, str] = {
    "P1/1": "enqueue one intent per transaction, 1 producer: rate, of a plain INSERT's",
    "P1/8": "the same, 8 producers",
    "P1b": "`enqueue_many` of 1,000: rate, of one multi-row INSERT's",
    **{
        row: title
        for peer, name in (
            ("pgqueuer", "PgQueuer"),
            ("faststream", "faststream-outbox"),
            ("procrastinate", "procrastinate"),
            ("awa", "awa-pg"),
        )
        for row, title in (
            (f"P1c/{peer}-1", f"one enqueue in the caller's transaction, 1 producer: rate, of {name}'s own"),
            (f"P1c/{peer}-8", "the same, 8 producers"),
        )
    },
    "P2": "drain one-step intents in lane order: rate, of procrastinate's with `lock`",
    "P2b/pgqueuer": "the same: rate, of PgQueuer's (no order)",
    "P2b/awa": "the same: rate, of awa-pg's (no order)",
    "P2b/faststream": "the same: rate, of faststream-outbox's (no order)",
    "P2c": "drain creates of two steps: time, of twice that of one step",
    "P3/200": "converge 200 creates end to end: rate, of the bare calls'",
    "P3/200-cpu": "the same: CPU time of worker and Postgres, of the bare calls' client",
    "P3/2k": "converge 2,000 creates end to end: rate, of the bare calls'",
    "P3/2k-cpu": "the same: CPU time of worker and Postgres, of the bare calls' client",
    "P4/p50": "a create on an idle system: median latency, of the direct calls'",
    "P4/p99": "the same, 99th percentile",
    "P5/100k": "claim + settle with 100,000 waiting: cost, of that with 1,000",
    "P5/1m": "the same with 1,000,000 waiting",
    "P5/lane": "the same with one lane of 100,000 in front",
    "P5/2m-done": "the same after 2,000,000 steps",
    "P5/open-transaction": "the same, 500 steps/s beside an open transaction: cost, of that without",
    "P6/statements": "statements of claim + settle per step",
    "P6/wal": "WAL of claim + settle per step, of 2 KB",
    "P7": "a worker's memory with 1,000,000 waiting, of that with 1,000",
    "P8/2k": "drain 2,000 one-step intents over Kafka: rate, of the direct wire's",
    "P8/20k": "drain 20,000 one-step intents over Kafka: rate, of the direct wire's",
    "P8/backlog": "the same with ten times as much waiting: cost, of that without",
    "P9/time": "audit of 5,000 schedules: time, of the plainest reading of both stores",
    "P9/memory": "an audit's memory with 100,000 schedules, of that with 1,000",
    "P10/help": "CPU time of `outbox --help`, of 0.3 s",
    "P10/version": "the same of `outbox --version`",
    "P10/completion": "the same of completing a command's name",
    "P10/import": "CPU time of importing all that producers use, of `import sqlalchemy, psycopg, pydantic`",
    "P10/run": "CPU time of `outbox run --until-idle` on an empty outbox, of 1 s",
    "P11/2": "drain one-step intents by 2 processes on one database: rate, of that of 1",
    "P11/4": "the same by 4 processes",
    "P11/8": "the same by 8 processes",
    "P11/1m-ended": "claim + settle with 1,000,000 ended intents in the ledger: cost, of that with none",
    "P11/10m-ended": "the same with 10,000,000",
    "P12/metrics": "converge creates end to end with metrics: rate, of that without",
    "P12/spans": "the same with metrics and every span sampled",
    "P12/metrics-cpu": "drain where effects cost nothing, with metrics: CPU time, of that without",
    "P12/spans-cpu": "the same with metrics and every span sampled",
    "P13/tabs": "drain without effects, beside five live tabs of the console: rate, of that without",
    "P13/queries": "the slowest query of an open page with 1,000,000 intents and 100,000 heads, of 50 ms",
    "P13/waves": "drain two-step creates beside a replay of 5,000 in waves: rate, of that without",
    "P14/one": "claim + settle of one step without prepared statements: cost, of that with them",
    "P14/hundred": "the same of a hundred steps",
    "P15/gauges": "pages read for what is exported, with 1,000,000 live schedules: of those with 1,000",
    "P15/status": "the same for `outbox status`",
    "P15/page": "the same for the newest page of intents",
    "P15/audit": "the same for what an audit asks the ledger about 100 schedules",
    "P15/idle": "the same for a claim that finds nothing",
    "P15/enqueue": "the same for 100 enqueues",
    "P15/claim": "the same for a claim of 100",
    "P15/settle": "the same for a settle of 100",
    "P15/live": "bytes of a live schedule in the ledger, of 2 KB",
    "P16": "10,000 updates over 100 lanes, Temporal at 10 steps a second: time, of that of one step each",
    "P15/ended": "bytes of an ended intent with its events, of 2 KB",
    "P15/create": "WAL of a create from its request to its end, of 8 KB",
    "P15/delete": "the same of a delete",
    "P15/worker": "a worker's peak memory on real stores, of 256 MB",
    "P15/kafka-worker": "the same on the Kafka wire",
    "P15/relay": "the same of the relay, which publishes events, too",
    "P17/pages": "pages read to verify 100 of 100,000 lanes: of those with 1,000",
    "P17/beside": "drain one-step intents beside `outbox verify --no-stores`: rate, of that without",
}


def lead(results: Iterable[Mapping[str, Any]]) -> str:
    """The three figures that matter to a user, from the rows that measure them."""
    found = {one["id"]: one for one in results}
    median, late = (found[row]["detail"] for row in ("P4/p50", "P4/p99"))
    enqueue, insert = (1000 / found["P1/1"]["detail"][side]["per_second"] for side in ("enqueue", "insert"))
    drained = found["P2"]["detail"]["outbox"]["per_second"]
    rows = (
        ("what", "with the outbox", "beside it"),
        (
            "a create on an idle system, until both stores have it: median and 99th percentile",
            f"{median['outbox_ms']} and {late['outbox_ms']} ms",
            f"the same calls made directly: {median['direct_ms']} and {late['direct_ms']} ms",
        ),
        (
            "a transaction with one enqueue, its commit included",
            f"{enqueue:.2f} ms",
            f"one with a plain INSERT: {insert:.2f} ms",
        ),
        (
            "steps in lane order, by one worker on one database",
            f"{drained:,.0f} a second",
            f"procrastinate with `lock`: {drained / found['P2']['ratio']:,.0f} a second",
        ),
    )
    head, *lines = (f"| {' | '.join(cells)} |" for cells in rows)
    return "\n".join([head, "|---|---|---|", *lines])


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """One line a result; the bad ones are bold."""
    lines = ["| row | what | ratio | spread | reach |", "|---|---|---|---|---|"]
    for one in results:
        ratio = f"{one['ratio']:.3g}"
        low, high = one["spread"]
        shown = ratio if one["ok"] else f"**{ratio}** (missed)"
        what = TITLES[one["id"]]
        lines.append(f"| {one['id']} | {what} | {shown} | {low:.3g} to {high:.3g} | {one['reach']} |")
    return "\n".join(lines)


def figures(results: Iterable[Mapping[str, Any]]) -> str:
    """The absolute figures behind each ratio."""
    lines = ["| row | measured |", "|---|---|"]
    for one in results:
        parts = [f"{name}: {_flat(value)}" for name, value in one["detail"].items() if name != "machine"]
        machine = one["detail"]["machine"]
        if (scale := machine["scale"]) != "full":
            parts.append(f"scale {scale}")
        if machine["busy"]:
            parts.append("beside other work")
        lines.append(f"| {one['id']} | {'; '.join(parts)} |")
    return "\n".join(lines)


def machines(results: Iterable[Mapping[str, Any]]) -> str:
    """What the rows were measured on."""
    rows: dict[str, dict[str, None]] = {}
    for one in results:
        found = one["detail"]["machine"]
        told = "; ".join(f"{name} {value}" for name, value in found.items() if name not in {"scale", "busy"})
        rows.setdefault(told, {})[one["id"].partition("/")[0]] = None
    return "\n".join(f"- {', '.join(names)}: {told}." for told, names in rows.items())


def picture(results: Iterable[Mapping[str, Any]]) -> str:
    """A bar for how far each ratio is from its goal, which is the line: to the right is better."""
    rows = list(results)
    step, left, width = 24, 190, 420
    goal = left + width // 2
    height = step * len(rows) + 40
    size = f'width="{left + width + 90}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for place, one in enumerate(rows):
        bound, reach = one["reach"].split()
        better = one["ratio"] / float(reach) if bound == ">=" else float(reach) / max(one["ratio"], 1e-9)
        length = min(width, max(3, better * width / 2))
        top = 20 + place * step
        colour = "#2a7f62" if one["ok"] else "#b3402e"
        label = f"{one['ratio']:.3g} ({one['reach']})"
        parts += [
            f'<text x="{left - 8}" y="{top + 13}" text-anchor="end">{escape(one["id"])}</text>',
            f'<rect x="{left}" y="{top}" width="{length:.0f}" height="{step - 8}" fill="{colour}"/>',
            f'<text x="{left + length + 6:.0f}" y="{top + 13}">{escape(label)}</text>',
        ]
    parts += [
        f'<line x1="{goal}" x2="{goal}" y1="10" y2="{height - 16}" stroke="#333" stroke-dasharray="4 3"/>',
        f'<text x="{goal}" y="{height - 4}" text-anchor="middle">goal</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} {_flat(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return ", ".join(_flat(inner) for inner in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def newest() -> list[Mapping[str, Any]]:
    """Each row as it was measured last, in the order of the page; it is kept so."""
    order = list(TITLES)
    kept, measured = (json.loads(path.read_text()) if path.exists() else [] for path in (KEPT, MEASURED))
    rows = {one["id"]: one for one in [*kept, *measured] if one["id"] in TITLES}
    results = sorted(rows.values(), key=lambda one: order.index(one["id"]))
    KEPT.write_text("[\n" + ",\n".join(json.dumps(one) for one in results) + "\n]\n")
    return results


def main() -> None:
    """Put what was measured between the page's marks, and draw the picture."""
    results = newest()
    text = PAGE.read_text()
    for name, write in {"lead": lead, "table": table, "figures": figures, "machines": machines}.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}{write(results)}\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(text)
    PICTURE.write_text(picture(results))


if __name__ == "__main__":
    main()
