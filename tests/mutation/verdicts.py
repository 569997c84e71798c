"""What became of changes so far, kept in a file: a run that was ended goes on where it was."""

import json

from tests.mutation.change import ROOT, Change
from tests.mutation.trial import Verdict

_FILE = ROOT / ".mutation/verdicts.jsonl"


class Verdicts:
    """Verdicts by what a change makes of its file: they hold for as long as that file is the same.

    Args:
        again: judge anew what nobody noticed, as there may be new tests.
    """

    def __init__(self, *, again: bool) -> None:
        self._again = again
        self._known: dict[tuple[str, bool], Verdict] = {}
        _FILE.parent.mkdir(exist_ok=True)
        if _FILE.exists():
            for line in _FILE.read_text("utf-8").splitlines():
                digest, patiently, by, told = json.loads(line)[:4]
                self._known[digest, patiently] = Verdict(by, told)

    def of(self, change: Change, *, patiently: bool) -> Verdict | None:
        """What became of it, if that is known."""
        verdict = self._known.get((change.digest, patiently))
        return None if verdict and verdict.by is None and self._again else verdict

    def keep(self, change: Change, verdict: Verdict, *, patiently: bool) -> None:
        """Remember what became of it."""
        self._known[change.digest, patiently] = verdict
        with _FILE.open("a", encoding="utf-8") as file:
            file.write(json.dumps([change.digest, patiently, verdict.by, verdict.told]) + "\n")
