"""The workflows check what `.ci/run` does, on each supported Python and Postgres, and call what there is."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.docs.pages import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SUPPORTED = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if "Python :: 3." in one]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github/workflows" / name).read_text("utf-8"))


def test_each_supported_python_runs_the_tests_on_the_oldest_and_the_newest_postgres() -> None:
    job = read("ci.yml")["jobs"]["tests"]
    assert job["strategy"]["matrix"] == {"python": SUPPORTED, "postgres": ["15", "18"]}
    assert "make test" in [step.get("run") for step in job["steps"]]
    assert PROJECT["requires-python"] == f">={SUPPORTED[0]}"


def test_a_release_needs_all_that_a_change_needs() -> None:
    assert ".ci/run" in [step.get("run") for step in read("ci.yml")["jobs"]["run"]["steps"]]
    release = read("release.yml")["jobs"]
    assert release["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert (release["build"]["needs"], release["publish"]["needs"]) == ("ci", "build")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_target_of_make_is_one_of_ours(path: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
    called = {
        target
        for job in jobs
        for step in job.get("steps", [])
        for command in re.findall(r"^make (.+)$", step.get("run", ""), re.MULTILINE)
        for target in command.split()
    }
    named = {target for job in jobs for target in job.get("strategy", {}).get("matrix", {}).get("target", [])}
    assert {*called, *named} - {'"$TARGET"'} <= targets
