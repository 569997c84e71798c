"""Completion in real shells: what Tab makes of what was begun, after ``outbox --install-completion``."""

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.debian import library_path, unpacked

BEGUN = [
    ("outbox authz", "authz-schema"),
    ("outbox hold --sto", "--store"),
    ("outbox hold --store te", "temporal"),
    ("outbox intents --status pa", "parked"),
    ("outbox run --only au", "authz"),
    ("outbox replay --error conflict_f", "conflict_foreign"),
]
PROMPT = b"ready> "
BELL = b"\a"
Completes = Callable[[str], str]


def home_with(home: Path, program: str, **environment: str) -> dict[str, str]:
    """The environment of a user of this shell who has installed completion."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    found = {"HOME": str(home), "PATH": path, "TERM": "dumb", **environment}
    subprocess.run(
        [program, "-c", "outbox --install-completion || exit 1"],
        env=found,
        capture_output=True,
        timeout=240,
        check=True,
    )
    return found


def by_tab(environment: dict[str, str], program: str, *, first_only_loads: bool = False) -> Completes:
    """What stands on the line of a shell when Tab was typed after these words.

    In zsh, the first Tab of a session loads what completes, and rings.
    """

    def complete(begun: str) -> str:
        ours, theirs = pty.openpty()
        seen = b""

        def read_until(pattern: bytes) -> None:
            nonlocal seen
            while not re.search(pattern, seen):
                seen += os.read(ours, 65_536)

        with subprocess.Popen(
            [program, "-i"],
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as shell:
            os.close(theirs)
            try:
                read_until(PROMPT)
                seen = b""
                os.write(ours, f"{begun}\t".encode())
                if first_only_loads:
                    read_until(BELL)
                    seen = seen.replace(BELL, b"")
                    os.write(ours, b"\t")
                # It rings as well where it finds nothing.
                read_until(re.escape(begun.encode()) + rb"\S+ |" + BELL)
            finally:
                shell.kill()
                os.close(ours)
        return seen.replace(BELL, b"").decode().split()[-1]

    return complete


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Completes:
    home = tmp_path_factory.mktemp("bash")
    program = shutil.which("bash")
    assert program
    (home / ".bashrc").write_text(f"PS1='{PROMPT.decode()}'\n")
    return by_tab(home_with(home, program), program)


@pytest.fixture(scope="module")
def zsh(tmp_path_factory: pytest.TempPathFactory) -> Completes:
    home = tmp_path_factory.mktemp("zsh")
    root = unpacked("zsh", "zsh-common")
    program = str(next(root.glob("**/bin/zsh")))
    modules = next(root.glob("usr/lib/*/zsh/*"))
    functions = " ".join(str(path) for path in root.glob("usr/share/zsh/functions/**/") if path.is_dir())
    (home / ".zshrc").write_text(f"module_path=({modules})\nfpath=({functions})\nPS1='{PROMPT.decode()}'\n")
    return by_tab(home_with(home, program, **library_path(root)), program, first_only_loads=True)


@pytest.fixture(scope="module")
def fish(tmp_path_factory: pytest.TempPathFactory) -> Completes:
    home = tmp_path_factory.mktemp("fish")
    root = unpacked("fish", "fish-common")
    program = str(root / "usr/bin/fish")
    environment = home_with(home, program, **library_path(root))

    def complete(begun: str) -> str:
        # What fish reads when it starts says so, where it is installed.
        there = "set --prepend fish_complete_path ~/.config/fish/completions"
        command = [program, "-c", f"{there}; complete --do-complete $argv[1]", begun]
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=240, check=True
        )
        return ran.stdout.split()[0]

    return complete


@pytest.mark.parametrize(("begun", "word"), BEGUN)
def test_bash_completes(bash: Completes, begun: str, word: str) -> None:
    assert bash(begun) == word


@pytest.mark.parametrize(("begun", "word"), BEGUN[:3])
def test_zsh_completes(zsh: Completes, begun: str, word: str) -> None:
    assert zsh(begun) == word


@pytest.mark.parametrize(("begun", "word"), BEGUN[:3])
def test_fish_completes(fish: Completes, begun: str, word: str) -> None:
    assert fish(begun) == word
