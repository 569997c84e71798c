"""``outbox init``: a file that commands work with, and nothing of anybody's written over."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from outbox.cli.init import ASKED, contents
from outbox.cli.main import app
from outbox.settings import Settings
from tests.cli.conftest import Cli
from tests.docs.test_commands import parse

OUTBOX = (sys.executable, "-m", "outbox")
# One for a secret offers nothing, and its last blank comes when what was typed before it has been dropped.
QUESTION = re.compile(rb"\nOUTBOX_\w+( \[.*\]:|: )$")


def test_where_nobody_can_answer_nothing_is_asked(cli: Cli, tmp_path: Path) -> None:
    ran = cli("init", stdin="")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("wrote .env: fill in OUTBOX_DATABASE_URL, OUTBOX_SPICEDB_TOKEN\n")
    written = tmp_path / ".env"
    assert written.read_text() == contents(ASKED)
    assert written.stat().st_mode & 0o777 == 0o600


def test_each_setting_of_the_file_is_one_and_says_what_it_is_for() -> None:
    lines = contents(ASKED).splitlines()
    named = [place for place, line in enumerate(lines) if re.match(r"(# )?OUTBOX_\w+=", line)]
    names = [re.sub(r"^# |=.*", "", lines[place]) for place in named]
    assert len(names) > len(ASKED)
    assert {name.removeprefix("OUTBOX_").lower() for name in names} <= set(Settings.model_fields)
    assert all(lines[place - 1].startswith("# ") for place in named)


def test_the_next_commands_can_be_typed(cli: Cli) -> None:
    told = cli("init", "--json").json
    assert (told["file"], len(told["next"])) == (".env", 3)
    shown = cli("init", "--force").out
    command: Any = typer.main.get_command(app)
    for line in told["next"]:
        assert f"  {line} " in shown
        parse(command, "outbox", line.split()[1:])


def test_nothing_is_written_over_unasked(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MINE=1\n")
    ran = cli("init")
    assert (ran.code, "--force" in ran.error) == (2, True)
    assert (tmp_path / ".env").read_text() == "MINE=1\n"
    assert cli("init", "--force").code == 0
    assert (tmp_path / ".env").read_text() == contents(ASKED)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_is_named(cli: Cli) -> None:
    ran = cli("init", "--file", "nowhere/.env")
    assert (ran.code, ran.error) == (2, "outbox: nowhere/.env can't be written: No such file or directory")


@pytest.mark.parametrize("secret", ["plain", "it's", '"quoted"', "with # and = and $x", "back\\slash", "ü ñ"])
def test_values_are_read_as_they_were_given(
    secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUTBOX_SPICEDB_TOKEN", raising=False)
    (tmp_path / ".env").write_text(contents({**ASKED, "spicedb_token": secret}), "utf-8")
    read = Settings(_env_file=tmp_path / ".env").spicedb_token
    assert read
    assert read.get_secret_value() == secret


def answering(folder: Path, *answers: str) -> tuple[int, str, str]:
    """What ``outbox init`` does where somebody answers so: its code, stdout and stderr."""
    ours, theirs = pty.openpty()
    said = b""
    with subprocess.Popen(
        [*OUTBOX, "init"],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stderr
        for answer in answers:
            asked = b""
            while not QUESTION.search(asked) and (more := os.read(process.stderr.fileno(), 65_536)):
                asked += more
            said += asked
            os.write(ours, f"{answer}\n".encode())
        out, err = process.communicate(timeout=240)
    os.close(theirs)
    os.close(ours)
    return process.returncode, out.decode(), (said + err).decode()


def test_on_a_terminal_the_answers_are_what_commands_work_with(
    cli: Cli, environment: dict[str, str], tmp_path: Path
) -> None:
    code, out, err = answering(tmp_path, *(environment[f"OUTBOX_{name.upper()}"] for name in ASKED))
    assert (code, out.splitlines()[0].strip()) == (0, "wrote .env")
    assert environment["OUTBOX_SPICEDB_TOKEN"] not in out + err
    looked = cli("doctor", "--json", **dict.fromkeys(environment))
    assert (looked.code, all(line["ok"] for line in looked.lines)) == (0, True)


def test_enter_takes_what_is_offered(tmp_path: Path) -> None:
    code, out, _ = answering(tmp_path, *[""] * len(ASKED))
    assert (code, "fill in OUTBOX_DATABASE_URL, OUTBOX_SPICEDB_TOKEN" in out) == (0, True)
    assert (tmp_path / ".env").read_text() == contents(ASKED)


def test_an_answer_that_can_be_no_setting_is_named_and_nothing_written(tmp_path: Path) -> None:
    code, _, err = answering(tmp_path, "mysql://localhost/app", *[""] * (len(ASKED) - 1))
    assert (code, "OUTBOX_DATABASE_URL names mysql" in err) == (2, True)
    assert not (tmp_path / ".env").exists()
