"""Changes the code wherever a tool can, and sees what is noticed: `make mutation`.

What nobody notices must be in survivors.toml, with the reason why it may be so.
"""

import argparse
import multiprocessing
import random
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.change import ROOT, Change, changes_of
from tests.mutation.judges import Judge, patient, preload, quick
from tests.mutation.survivors import Name, Survivor, all_survivors
from tests.mutation.trial import Verdict, tried
from tests.mutation.verdicts import Verdicts

_PLAN = Path(__file__).with_name("plan.toml")
_QUICK_CPU_SECONDS, _PATIENT_CPU_SECONDS = 15, 300
_IDLE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Part:
    """Some files, and the tests that may notice their changes."""

    files: Sequence[str]
    unit: Sequence[str] = ()
    servers: Sequence[str] = ()


def main() -> int:
    """Try what was asked for; 1 if a change survives that may not, or one may that doesn't."""
    options = _options()
    started = time.monotonic()
    parts = _parts(options.paths)
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        changes = [change for found in pool.imap(changes_of, parts) for change in found]
    everything = len(changes)
    if options.sample:
        changes = random.Random(options.seed).sample(changes, min(options.sample, everything))
        print(f"{len(changes)} of {everything} changes, drawn by seed {options.seed}")
    preload()
    may, run = all_survivors(), _Run(parts, Verdicts(again=options.again), options.processes)
    came = run.tried(changes, patiently=False)
    left = [change for change, verdict in came.items() if verdict.by is None and change.name not in may]
    if not options.quick:
        came |= run.tried(left, patiently=True)
    wrong = _told(came, may)
    if not options.sample:
        wrong += _stale(came, may)
    print(f"{len(came)} changes, {wrong} wrong, in {time.monotonic() - started:.0f} s")
    return 1 if wrong else 0


@dataclass(frozen=True, slots=True)
class _Run:
    """Tries changes, and keeps what became of them."""

    parts: Mapping[str, Part]
    verdicts: Verdicts
    processes: int

    def tried(self, changes: Sequence[Change], *, patiently: bool) -> dict[Change, Verdict]:
        """Try those of which it isn't known yet what becomes of them; tell it of all.

        Raises:
            SystemExit: a judge notices something where nothing is changed: it would notice it everywhere.
        """
        known = [(change, self.verdicts.of(change, patiently=patiently)) for change in changes]
        came = {change: verdict for change, verdict in known if verdict is not None}
        todo = [change for change in changes if change not in came]
        # One file of each part: what is unchanged is so everywhere.
        files = {tuple(self.parts[change.file].files): change.file for change in todo}.values()
        unchanged = [Change(file, "", "", "", 0, (ROOT / file).read_text("utf-8")) for file in files]
        for change, verdict in self._trials(unchanged, patiently=patiently):
            if verdict.by is not None:
                raise SystemExit(f"{change.file} as it is: {verdict.by}, {verdict.told}")
        for number, (change, verdict) in enumerate(self._trials(todo, patiently=patiently), 1):
            self.verdicts.keep(change, verdict, patiently=patiently)
            came[change] = verdict
            if verdict.by is None:
                print(f"{number}/{len(todo)} survives: {change}", flush=True)
        return came

    def _trials(self, changes: Sequence[Change], *, patiently: bool) -> Iterator[tuple[Change, Verdict]]:
        def judges(change: Change) -> Sequence[Judge]:
            part = self.parts[change.file]
            return patient(part.servers) if patiently else quick(part.unit)

        cpu = _PATIENT_CPU_SECONDS if patiently else _QUICK_CPU_SECONDS
        return tried(changes, judges, processes=self.processes, cpu_seconds=cpu, idle_seconds=_IDLE_SECONDS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("paths", nargs="*", help="files or folders; all that plan.toml has, if none")
    parser.add_argument("--sample", type=int, help="try so many alone")
    parser.add_argument("--seed", type=int, default=1, help="which")
    parser.add_argument("--quick", action="store_true", help="no servers, and nothing that takes longer")
    parser.add_argument("--again", action="store_true", help="judge anew what nobody noticed")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def _parts(paths: Sequence[str]) -> Mapping[str, Part]:
    parts = [Part(**part) for part in tomllib.loads(_PLAN.read_text("utf-8"))["part"]]
    asked = [path.rstrip("/") for path in paths]
    return {
        file: part
        for part in parts
        for file in part.files
        if not asked or any(file == path or file.startswith(f"{path}/") for path in asked)
    }


def _told(came: Mapping[Change, Verdict], may: Mapping[Name, Survivor]) -> int:
    """Print the table, and what survives that may not; tell how many those are."""
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    wrong = []
    for change, verdict in came.items():
        kept = may.get(change.name)
        if verdict.by is None and kept is None:
            wrong.append(change)
        table[change.file][verdict.by or (f"kept: {kept.kind}" if kept else "SURVIVES")] += 1
    for file, counts in table.items():
        print(f"{file} | {counts.total()} | " + ", ".join(f"{n} {by}" for by, n in counts.most_common()))
    for change in sorted(wrong, key=lambda one: (one.file, one.where)):
        print(f"survives: {change}")
    return len(wrong)


def _stale(came: Mapping[Change, Verdict], may: Mapping[Name, Survivor]) -> int:
    """Print what is listed as a survivor and is none, in the files that were tried; tell how many."""
    survive = {change.name for change, verdict in came.items() if verdict.by is None}
    files = {change.file for change in came}
    stale = [one for one in may.values() if one.name[0] in files and one.name not in survive]
    for one in stale:
        print(f"listed, and no survivor: {one.name}")
    return len(stale)


if __name__ == "__main__":
    sys.exit(main())
