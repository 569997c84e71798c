"""Results as a table: for the terminal, and for docs/performance.md."""

from collections.abc import Iterable

from tests.bench.measure import Result


def table(results: Iterable[Result]) -> str:
    """One line a result, for a terminal."""
    lines = [f"{'row':<22}{'ratio':>9}  {'reach':<9}{'':<5}spread"]
    for one in results:
        low, high = one.spread
        verdict = "ok" if one.ok else "MISS"
        lines.append(f"{one.id:<22}{one.ratio:>9.3f}  {one.reach:<9}{verdict:<5}{low:.3f} to {high:.3f}")
    return "\n".join(lines)
