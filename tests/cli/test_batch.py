"""create --from: what a file may be, and how what can't be read ends. It needs Postgres alone."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from outbox.cli.json_lines import NotJson, loads, read_lines
from outbox.cli.running import CommandError
from outbox.documentation import Problem, of_command, of_problem
from tests.cli.conftest import Cli

BOM = b"\xef\xbb\xbf"
LINES = 1_000
LONGEST = 8 * 262_144


@pytest.fixture
def environment(database: str) -> dict[str, str]:
    return {"OUTBOX_DATABASE_URL": database}


def line(name: str, **fields: object) -> bytes:
    entry = {"agent_id": "a", "name": name, "workflow_name": "W", "task_queue": "q", "interval_seconds": 60}
    return json.dumps({**entry, **fields}, ensure_ascii=False).encode() + b"\n"


def workflows(database: str) -> list[str]:
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT request ->> 'workflow_name' FROM outbox.intents ORDER BY position")
        return [str(name) for (name,) in rows]


@contextmanager
def started(
    environment: dict[str, str], *arguments: str, stdin: int = subprocess.PIPE, stdout: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process of its own, for what only a process has: locale, signals, pipes."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOX_")}
    command = [sys.executable, "-m", "outbox", "create", "--from", *arguments]
    with subprocess.Popen(
        command, env=own | environment, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Its code, and what it says, which it does in one line; below it, at most where that leads."""
    _, err = process.communicate(timeout=240)
    one, *link = err.decode().splitlines()
    assert link in ([], [f"help: {of_command('create')}"])
    return process.returncode, one


class TestJson:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('{"agent_id": "a", "agent_id": "b"}', "has the key 'agent_id' twice"),
            ('{"agent_id": "a", "agent\\u005fid": "b"}', "has the key 'agent_id' twice"),
            ('{"p": [{"q": {"deep": 1, "x": 2, "deep": 1}}]}', "has the key 'deep' twice"),
            ('{"\\ud800": 1, "\\ud800": 2}', r"has the key '\ud800' twice"),
            ('{"p": NaN}', "has NaN, a number that JSON doesn't have"),
            ('{"p": [-Infinity]}', "has -Infinity, a number that JSON doesn't have"),
            ("Infinity", "has Infinity, a number that JSON doesn't have"),
            ("[" * 100_000, "is nested too deep"),
            ("9" * 5_000, "has a number of more than 4300 digits"),
            ("{nope", "not JSON: Expecting property name enclosed in double quotes at column 2"),
            ('{\n"a": }', "not JSON: Expecting value at line 2, column 6"),
        ],
    )
    def test_what_is_no_json_or_says_two_things_is_refused_by_name(self, text: str, reason: str) -> None:
        with pytest.raises(NotJson) as refused:
            loads(text)
        assert str(refused.value) == reason

    def test_a_long_key_is_cut(self) -> None:
        with pytest.raises(NotJson) as refused:
            loads(f'{{"{"k" * 1_000}": 1, "{"k" * 1_000}": 2}}')
        assert len(str(refused.value)) < 130

    def test_one_key_in_many_objects_is_no_double(self) -> None:
        assert loads('[{"a": {"a": 1}}, {"a": 2}]') == [{"a": {"a": 1}}, {"a": 2}]


class TestLines:
    @pytest.mark.parametrize(
        ("content", "lines"),
        [
            (b"", []),
            (BOM, [""]),
            (BOM + b"a\nb", ["a\n", "b"]),
            (b"a\r\n\r\nb\n", ["a\r\n", "\r\n", "b\n"]),
            ("ü\u2028ü\n".encode(), ["ü\u2028ü\n"]),
            (b"a\n" + BOM + b"b\n", ["a\n", "\ufeffb\n"]),
            (b"12345678\n12345678\n", ["12345678\n", "12345678\n"]),
        ],
    )
    def test_lines_are_read_as_they_are_without_a_byte_order_mark(
        self, tmp_path: Path, content: bytes, lines: list[str]
    ) -> None:
        file = tmp_path / "f.jsonl"
        file.write_bytes(content)
        assert list(read_lines(str(file), longest=9)) == lines

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"a\nb\n123456789\n", "line 3: is longer than 9 bytes"),
            (BOM + b"1234567", "line 1: is longer than 9 bytes"),
            (b"a\nb\xff\n", "line 2: is not UTF-8: invalid start byte at byte 2"),
            (b"\xff\xfea\0\n\0", "line 1: is not UTF-8: invalid start byte at byte 1"),
            (b"a\nb\xe2\x82\n", "line 2: is not UTF-8: invalid continuation byte at byte 2"),
        ],
    )
    def test_what_is_no_line_ends_it_with_its_number(
        self, tmp_path: Path, content: bytes, reason: str
    ) -> None:
        file = tmp_path / "f.jsonl"
        file.write_bytes(content)
        with pytest.raises(CommandError) as refused:
            list(read_lines(str(file), longest=9))
        assert (refused.value.code, str(refused.value)) == (2, f"{file}, {reason}")


def test_a_byte_order_mark_is_skipped_in_a_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_bytes(BOM + line("a") + line("b"))
    assert cli("create", "--from", "f.jsonl").out == "enqueued 2 intents\n"


def test_stdin_is_utf_8_without_its_mark_whatever_the_locale(
    environment: dict[str, str], database: str
) -> None:
    elsewhere = {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    with started(environment | elsewhere, "-") as process:
        out, _ = process.communicate(BOM + line("a", workflow_name="Übersicht"), timeout=240)
    assert (process.returncode, out) == (0, b"enqueued 1 intents\n")
    assert workflows(database) == ["Übersicht"]


def test_a_key_that_stands_twice_picks_no_agent(cli: Cli, database: str, tmp_path: Path) -> None:
    twice = line("b").replace(b'{"agent_id"', b'{"agent_id": "mallory", "agent_id"')
    (tmp_path / "f.jsonl").write_bytes(line("a") + twice + line("c", workflow_params={"n": float("nan")}))
    ran = cli("create", "--from", "f.jsonl")
    assert (ran.code, workflows(database)) == (2, [])
    assert ran.err.splitlines() == [
        "line 2: has the key 'agent_id' twice",
        "line 3: has NaN, a number that JSON doesn't have",
        "outbox: nothing was enqueued: 2 of 3 lines are bad (--keep-going enqueues the others)",
        f"help: {of_problem(Problem.REFUSED_REQUEST)}",
    ]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ('{"a": {"b": 1, "b": 2}}', "--params: has the key 'b' twice"),
        ('{"a": NaN}', "--params: has NaN, a number that JSON doesn't have"),
        ("{nope", "--params: not JSON: Expecting property name enclosed in double quotes at column 2"),
    ],
)
def test_params_are_read_as_strictly(cli: Cli, params: str, reason: str) -> None:
    ran = cli(
        *("create", "a", "n", "--workflow", "W", "--task-queue", "q", "--interval", "5"), "--params", params
    )
    assert (ran.code, ran.error) == (2, f"outbox: {reason}")


def test_a_refusal_by_the_database_names_the_line_alone(cli: Cli, tmp_path: Path) -> None:
    keyed = {"idempotency_key": "k"}
    (tmp_path / "f.jsonl").write_bytes(line("a", **keyed) + b"\n" + line("b", **keyed))
    ran = cli("create", "--from", "f.jsonl")
    assert ran.code == 2
    assert ran.err.startswith('line 3: idempotency_key: "k" was used before')


unprivileged = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("missing", "missing can't be read: No such file or directory"),
        ("folder", "folder can't be read: Is a directory"),
        ("/proc/self/mem", "/proc/self/mem can't be read: Input/output error"),
        pytest.param("locked", "locked can't be read: Permission denied", marks=unprivileged),
        ("latin-1", "latin-1, line 2: is not UTF-8: invalid continuation byte at byte 50"),
        ("/dev/zero", f"/dev/zero, line 1: is longer than {LONGEST} bytes"),
    ],
)
def test_what_cannot_be_read_is_one_line_even_with_keep_going(
    cli: Cli, database: str, tmp_path: Path, source: str, reason: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "locked").touch(mode=0)
    (tmp_path / "latin-1").write_bytes(line("a") + line("b", workflow_name="Über").decode().encode("latin-1"))
    ran = cli("create", "--from", source, "--keep-going")
    assert (ran.code, ran.out, ran.error) == (2, "", f"outbox: {reason}")
    assert workflows(database) == []


def test_stdin_that_cannot_be_read_is_named(environment: dict[str, str]) -> None:
    with (
        Path("/proc/self/mem").open("rb") as memory,
        started(environment, "-", stdin=memory.fileno()) as process,
    ):
        assert said(process) == (2, "outbox: stdin can't be read: Input/output error")


def test_stdin_that_is_closed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Python finds it after `<&-`.
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CommandError, match="stdin is closed"):
        list(read_lines("-", longest=9))


def test_the_bound_of_a_line_follows_that_of_a_request(cli: Cli, tmp_path: Path) -> None:
    escaped = b"".join(rb"\u%04x" % ord("w") for _ in range(200))
    good = line("a").replace(b'"W"', b'"%s"' % escaped)
    (tmp_path / "f.jsonl").write_bytes(good)
    assert cli("create", "--from", "f.jsonl", OUTBOX_MAX_REQUEST_BYTES="400").code == 0
    ran = cli("create", "--from", "f.jsonl", OUTBOX_MAX_REQUEST_BYTES="100")
    assert (ran.code, ran.error) == (2, "outbox: f.jsonl, line 1: is longer than 800 bytes")


class TestInterrupted:
    def test_while_it_reads(self, environment: dict[str, str], database: str) -> None:
        with started(environment, "-") as process:
            assert process.stdin
            # More than a pipe holds: once all is written, it reads.
            process.stdin.write(line("a") * LINES)
            process.stdin.flush()
            process.send_signal(signal.SIGINT)
            process.wait(timeout=240)  # before its stdin ends
            assert said(process) == (130, "outbox: interrupted: nothing was enqueued")
        assert workflows(database) == []

    def test_while_it_enqueues(self, environment: dict[str, str], database: str, tmp_path: Path) -> None:
        file = tmp_path / "f.jsonl"
        file.write_bytes(b"".join(line(f"n{number}") for number in range(LINES + 1)))
        with psycopg.connect(database) as holder, psycopg.connect(database, autocommit=True) as observer:
            holder.execute("LOCK TABLE outbox.intents IN EXCLUSIVE MODE")
            with started(environment, str(file)) as process:
                while not observer.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                    assert process.poll() is None
                process.send_signal(signal.SIGINT)
                assert said(process) == (130, "outbox: interrupted: nothing was enqueued")
        assert workflows(database) == []


class TestStdout:
    @pytest.mark.parametrize("as_json", [True, False])
    def test_that_nobody_reads_any_more_is_told_what_was_done(
        self, environment: dict[str, str], database: str, tmp_path: Path, *, as_json: bool
    ) -> None:
        file = tmp_path / "f.jsonl"
        file.write_bytes(line("a") + line("b"))
        theirs, ours = os.pipe()
        os.close(theirs)
        with started(environment, str(file), *["--json"] * as_json, stdout=ours) as process:
            os.close(ours)
            code, one = said(process)
        assert (code, one) == (
            141,
            "outbox: 2 intents are enqueued, though stdout did not take them all: Broken pipe",
        )
        assert workflows(database) == ["W", "W"]

    def test_that_is_full_is_a_failure_of_telling_alone(
        self, environment: dict[str, str], database: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "f.jsonl"
        file.write_bytes(line("a") + b"nope\n")
        with (
            Path("/dev/full").open("wb") as full,
            started(environment, str(file), "--json", "--keep-going", stdout=full.fileno()) as process,
        ):
            _, err = process.communicate(timeout=240)
        assert process.returncode == 1
        assert err.decode().splitlines() == [
            "line 2: not JSON: Expecting value at column 1",
            "1 bad lines were left out",
            "outbox: 1 intents are enqueued, though stdout did not take them all: No space left on device",
            f"help: {of_command('create')}",
        ]
        assert workflows(database) == ["W"]
