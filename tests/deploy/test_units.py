"""The units: systemd takes them, they leave time enough, and confine what they run."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from outbox.cli.main import app
from outbox.pulse import HUNG_SECONDS
from outbox.settings import Settings
from tests.debian import NotToBeHadError, library_path, unpacked
from tests.deploy.rendered import DEPLOY
from tests.docs.test_commands import parse

UNITS = DEPLOY / "systemd"
NAMES = sorted(path.name for path in UNITS.glob("*.service"))
INSTALLED = "/opt/outbox/bin/outbox"
# In tenths, out of 100. Without what confines it a unit has 96.
EXPOSURE_AT_MOST = 20


@pytest.fixture(scope="module")
def analyze() -> tuple[Path, dict[str, str]]:
    """systemd-analyze, and the environment that it needs."""
    if found := shutil.which("systemd-analyze"):
        return Path(found), {}
    try:
        root = unpacked("systemd")
    except NotToBeHadError as error:
        pytest.skip(str(error))
    return root / "usr/bin/systemd-analyze", library_path(root)


def service(name: str) -> dict[str, str]:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[method-assign,assignment]
    found.read(UNITS / name, "utf-8")
    return dict(found["Service"])


def test_there_is_a_unit_for_each_process_that_works() -> None:
    assert NAMES == ["outbox-console.service", "outbox-relay.service", "outbox-worker.service"]


@pytest.mark.parametrize("name", NAMES)
def test_systemd_takes_it(name: str, analyze: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Where the command is installed: systemd looks for it, too."""
    program, environment = analyze
    here = Path(sys.executable).with_name("outbox")
    shutil.copytree(UNITS, tmp_path, dirs_exist_ok=True)
    unit = tmp_path / name
    unit.write_text(unit.read_text("utf-8").replace(INSTALLED, str(here)), "utf-8")
    verified = subprocess.run(
        [program, "verify", "--recursive-errors=no", unit],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_confined(name: str, analyze: tuple[Path, dict[str, str]]) -> None:
    program, environment = analyze
    judged = subprocess.run(
        [program, "security", "--offline=true", f"--threshold={EXPOSURE_AT_MOST}", UNITS / name],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout


@pytest.mark.parametrize("name", NAMES)
def test_its_command_can_be_typed(name: str) -> None:
    program, *words = service(name)["ExecStart"].split()
    assert program == INSTALLED
    command: Any = typer.main.get_command(app)
    parse(command, "outbox", words)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_stopped_after_it_has_drained_and_restarted_after_it_counts_as_hung(name: str) -> None:
    told = service(name)
    assert int(told["TimeoutStopSec"]) > Settings.model_validate({}).drain_seconds + 5
    assert told["Type"] == "notify"
    assert int(told["WatchdogSec"]) > HUNG_SECONDS
