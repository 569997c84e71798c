"""What becomes of a change that is noticed, of one that isn't, and of those whose process ends badly."""

import subprocess
import sys

from tests.mutation.change import ROOT

# In a process of its own: it makes more of them, by copies of itself.
TRIALS = """
import os, time
from tests.mutation.change import Change
from tests.mutation.judges import Judge
from tests.mutation.trial import tried

def value():
    from outbox import clock
    return clock.changed

def raises():
    raise KeyError("a defect")

def computes():
    while True:
        pass

judges = {
    "noticed": [
        Judge("first", lambda: None),
        Judge("second", lambda: f"it is {value()}"),
        Judge("third", computes),
    ],
    "not": [Judge("first", lambda: None)],
    "raises": [Judge("first", raises)],
    "computes": [Judge("first", computes)],
    "waits": [Judge("first", lambda: time.sleep(600))],
    "dies": [Judge("first", lambda: os._exit(3))],
}
def told(names, idle_seconds):
    changes = [Change("outbox/clock.py", name, "", "", 0, f"changed = {name!r}") for name in names]
    trials = tried(
        changes, lambda one: judges[one.where], processes=2, cpu_seconds=2, idle_seconds=idle_seconds
    )
    return sorted((change.where, verdict.by, verdict.told) for change, verdict in trials)

# Only what waits may be impatient: a busy machine lets the others wait, too.
print([*told(judges.keys() - {"waits"}, 500), *told(["waits"], 1)])
"""


def test_each_is_told_with_who_noticed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRIALS], cwd=ROOT, capture_output=True, text=True, check=True, timeout=540
    )
    assert done.stdout.strip() == str(
        [
            ("computes", "its time", "computes for ever"),
            ("dies", "the process", "died"),
            ("not", None, ""),
            ("noticed", "second", "it is noticed"),
            ("raises", "first", "KeyError: 'a defect'"),
            ("waits", "its time", "waits for ever"),
        ]
    )
