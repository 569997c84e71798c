"""A real Prometheus, which scrapes what a test has it scrape."""

import json
import os
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from outbox.stack.ports import pick
from tests.debian import NotToBeHadError, library_path, unpacked
from tests.docs.pages import ROOT

EXAMPLES = ROOT / "docs/examples/prometheus"
_WAIT_SECONDS = 90.0
_POLL_SECONDS = 0.1


@pytest.fixture(scope="module")
def prometheus() -> Path:
    """Where Prometheus' programs are."""
    try:
        return unpacked("prometheus") / "usr/bin"
    except NotToBeHadError as error:
        pytest.skip(str(error))


class Server:
    """A Prometheus, asked over HTTP."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._url = url
        self._process = process
        self._log = log

    def ask(self, query: str) -> list[Any]:
        """The result of a query at this moment."""
        asked = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"{self._url}/api/v1/query?{asked}", timeout=240) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
        return found

    def wait_for(self, query: str, *, none: bool = False) -> list[Any]:
        """Wait until a query finds something; or nothing any more."""
        until = time.monotonic() + _WAIT_SECONDS
        found: list[Any] | None = None
        while time.monotonic() < until:
            assert self._process.poll() is None, self._log.read_text()
            try:
                found = self.ask(query)
            except OSError:
                found = None  # it does not listen yet
            if found is not None and bool(found) is not none:
                return found
            time.sleep(_POLL_SECONDS)  # another program brings it about
        raise AssertionError(f"waited {_WAIT_SECONDS:.0f} s for {query}: {found}\n{self._log.read_text()}")


@contextmanager
def served(programs: Path, ports: Sequence[int], rules: Path, folder: Path) -> Iterator[Server]:
    """Inside, a Prometheus with these rules scrapes the endpoints at some ports, once a second."""
    targets = [f"127.0.0.1:{port}" for port in ports]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "outbox", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    at = f"127.0.0.1:{pick(set(ports))}"
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [
                programs / "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={at}",
            ],
            env={**os.environ, **library_path(programs.parents[1])},
            stderr=log,
        ) as process,
    ):
        try:
            yield Server(f"http://{at}", process, folder / "log")
        finally:
            process.terminate()
