"""The judge from outside, in Go: its own tests, and what it says to whoever runs it."""

import gzip
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.go_modules import download
from tests.outside.simulated import record

pytestmark = pytest.mark.toolchain

FOLDER = ROOT / "tests/outside"
PUBLISHED = sorted((ROOT / "docs/histories").glob("*.jsonl.gz"))
SEEDS = range(30)


def ran(*command: str) -> tuple[int, str]:
    done = subprocess.run(
        command,
        cwd=FOLDER,
        # Nothing here needs a compiler of C.
        env=os.environ | {"CGO_ENABLED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module", autouse=True)
def modules() -> None:
    download(FOLDER)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> str:
    built = str(tmp_path_factory.mktemp("judge") / "judge")
    assert ran("go", "build", "-o", built, ".") == (0, "")
    return built


def test_it_can_say_no() -> None:
    """Lives told by hand, each lie about each published history, and histories of broken products."""
    code, printed = ran("go", "test", "./...")
    assert code == 0, printed


def test_its_code_is_formatted_and_vetted() -> None:
    assert ran("gofmt", "-l", ".") == (0, "")
    assert ran("go", "vet", ".") == (0, "")
    assert ran("go", "mod", "verify") == (0, "all modules verified\n")


def test_it_agrees_with_what_is_published(judge: str) -> None:
    code, printed = ran(judge, *map(str, PUBLISHED))
    assert code == 0, printed
    assert [line.split(": ")[0] for line in printed.splitlines()] == [str(path) for path in PUBLISHED]


def test_it_agrees_with_simulated_runs_to_the_moment(judge: str, tmp_path: Path) -> None:
    """Every change of a store is seen in these: where calls keep to the bound, none has to be late."""
    files = {seed: tmp_path / f"{seed}.jsonl.gz" for seed in SEEDS}
    beyond = {str(path) for seed, path in files.items() if record(seed, path)}
    code, printed = ran(judge, *map(str, files.values()))
    assert code == 0, printed
    late = set(re.findall(r"^(.*?): .*explained; ", printed, re.MULTILINE))
    assert len(printed.splitlines()) == len(files)
    assert late <= beyond, printed


def test_it_names_the_schedule_and_what_does_not_fit(judge: str, tmp_path: Path) -> None:
    lines = gzip.decompress(PUBLISHED[0].read_bytes()).decode().splitlines()
    told = [json.loads(line) for line in lines]
    waits = {one["op"]: one for one in told if one.get("f") == "wait"}
    at = next(at for at, one in enumerate(told) if one.get("op") in waits and one["type"] == "ok")
    told[at]["value"] |= {"status": "failed", "event": "schedule.create_failed", "code": "no_such_code"}
    changed = tmp_path / "changed.jsonl"
    changed.write_text("\n".join([lines[0], *map(json.dumps, told[1:])]))
    code, printed = ran(judge, str(changed))
    assert code == 1
    assert "REFUSED" in printed.splitlines()[0]
    asked = waits[told[at]["op"]]
    assert f"{asked['schedule']}: no order explains it" in printed
    assert f"is told of {asked['value']['intent']}: schedule.create_failed no_such_code" in printed


def test_what_is_no_history_is_refused_with_its_line(judge: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"format":"agent-schedule-outbox-history","version":1}\n{"op":1,"type":"ok"')
    assert ran(judge, str(wrong)) == (2, f"{wrong}: line 2: unexpected end of JSON input\n")
    assert ran(judge)[0] == 2
