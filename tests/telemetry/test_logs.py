"""What is logged is JSON or text: as a terminal suggests, or as the setting says."""

import io
import json
import sys
from uuid import uuid4

import pytest
import structlog

from outbox.cli.logs import set_up_logs
from tests.cli.conftest import Cli, cli, environment

__all__ = ["cli", "environment"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("stderr", "layout", "lines"),
    [
        (Terminal, "auto", False),
        (io.StringIO, "auto", True),
        (Terminal, "json", True),
        (io.StringIO, "text", False),
    ],
)
def test_a_terminal_gets_text_and_all_else_json_unless_the_layout_is_said(
    stderr: type[io.StringIO], layout: str, *, lines: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = stderr()
    monkeypatch.setattr(sys, "stderr", said)
    set_up_logs(verbose=False, layout=layout)
    structlog.get_logger().info("something.happened", code="refused")
    assert "something.happened" in said.getvalue()
    assert is_json(said.getvalue()) is lines


@pytest.mark.parametrize("layout", ["json", "text"])
def test_a_traceback_says_where_and_shows_no_variable(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    set_up_logs(verbose=False, layout=layout)

    def fail(token: str) -> None:
        raise LookupError(f"nothing in {len(token)} letters")

    # Made here: a traceback shows lines of the source.
    secret = uuid4().hex
    try:
        fail(secret)
    except LookupError:
        structlog.get_logger().exception("something.broke")
    assert "LookupError" in said.getvalue()
    assert "nothing in 32 letters" in said.getvalue()
    assert "test_logs.py" in said.getvalue()
    assert secret not in said.getvalue()


def test_a_worker_logs_as_its_setting_says(cli: Cli) -> None:
    said = cli("run", "--until-idle", OUTBOX_LOG_FORMAT="text").err.splitlines()
    assert any("worker.started" in line for line in said)
    assert not any(is_json(line) for line in said)
