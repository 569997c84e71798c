"""Small charts, drawn on the server as SVG; their colours come from the stylesheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

from outbox.store.shapes import told

WIDTH, HEIGHT = 600, 72


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an intent's story.

    Attributes:
        kind: ``step``, or what became of an attempt that did not settle one: ``retry``, ``hold``, ``park``.
        after: seconds since the line before.
    """

    at: datetime
    kind: str
    what: str
    attempt: int | None
    error: dict[str, str] | None
    after: float | None


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of an intent's time, of the kind of the line that it follows."""

    kind: str
    label: str
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.end - self.start).total_seconds()


def columns(values: Sequence[float], title: str) -> Markup:
    """A column for each value, the highest as high as the chart."""
    top = max(values, default=0) or 1
    step = WIDTH / max(1, len(values))
    bars = Markup().join(
        Markup('<rect class="bar" x="{}" y="{}" width="{}" height="{}"/>').format(
            _round(at * step),
            _round(HEIGHT - value / top * HEIGHT),
            _round(step * 0.8),
            _round(value / top * HEIGHT),
        )
        for at, value in enumerate(values)
        if value
    )
    return _svg(bars, title)


def lines(series: Sequence[tuple[str, Sequence[float | None]]], title: str) -> Markup:
    """A line for each series, over one scale; a gap where there is no value."""
    top = max((value for _, values in series for value in values if value is not None), default=0) or 1
    drawn = Markup()
    for name, values in series:
        step = WIDTH / max(1, len(values))
        points = " ".join(
            f"{_round((at + 0.4) * step)},{_round(HEIGHT - 2 - value / top * (HEIGHT - 4))}"
            for at, value in enumerate(values)
            if value is not None
        )
        drawn += Markup('<polyline class="line {}" points="{}"/>').format(name, points)
    return _svg(drawn, title)


def lines_of(intent: dict[str, Any]) -> list[Line]:
    """All that happened to an intent, in order: its events, and the attempts that did not settle a step."""
    found = [(one["at"], "step", told(one), one["attempt"], one["error"]) for one in intent["events"]]
    found += [
        (one["at"], one["then"], f"{one['consumer']} {one['then']}", one["attempt"], one["error"])
        for one in intent["failed_attempts"]
    ]
    found.sort(key=lambda line: line[0])
    before = [None, *(at for at, *_ in found)]
    return [
        Line(at, kind, what, attempt, error, None if last is None else (at - last).total_seconds())
        for (at, kind, what, attempt, error), last in zip(found, before, strict=False)
    ]


def stretches(intent: dict[str, Any], now: datetime) -> list[Bar]:
    """An intent's time as stretches: from each event or attempt to the next, or until now."""
    lines = lines_of(intent)
    ends = [line.at for line in lines[1:]]
    if lines and intent["status"] not in {"succeeded", "failed"}:
        ends.append(max(now, lines[-1].at))
    return [Bar(line.kind, line.what, line.at, end) for line, end in zip(lines, ends, strict=False)]


def gantt(bars: Sequence[Bar], title: str) -> Markup:
    """Stretches beside each other, as long as they took; the shortest can still be seen."""
    if not bars:
        return Markup()
    begin, whole = bars[0].start, (bars[-1].end - bars[0].start) or timedelta(milliseconds=1)
    drawn = Markup().join(
        Markup(
            '<rect class="stretch {}" x="{}" y="4" width="{}" height="16"><title>{}</title></rect>'
        ).format(
            bar.kind,
            _round((bar.start - begin) / whole * WIDTH),
            _round(max(2, (bar.end - bar.start) / whole * WIDTH)),
            f"{bar.label}: {bar.seconds:.3f} s",
        )
        for bar in bars
    )
    return _svg(drawn, title, height=24)


def _svg(content: Markup, title: str, *, height: int = HEIGHT) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        "{}</svg>"
    ).format(WIDTH, height, escape(title), content)


def _round(value: float) -> str:
    return f"{value:.1f}"
