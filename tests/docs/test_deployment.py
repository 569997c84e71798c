"""The examples for Kubernetes and systemd name what there is, and leave time enough to drain."""

import configparser
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]

from outbox.cli.main import app
from outbox.pulse import HUNG_SECONDS
from outbox.settings import Settings
from outbox.telemetry.http import Process
from outbox.telemetry.http import app as endpoint
from tests.docs.pages import ROOT
from tests.docs.test_commands import parse

EXAMPLES = ROOT / "docs/examples"
SETTINGS = Settings.model_validate({})


@pytest.fixture
def container() -> dict[str, Any]:
    deployment = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text("utf-8"))
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only | {
        "grace": deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    }
    return found


@pytest.fixture
def unit() -> dict[str, str]:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[method-assign,assignment]
    found.read(EXAMPLES / "outbox-worker.service", "utf-8")
    return dict(found["Service"])


def test_probes_ask_for_paths_that_the_endpoint_has_where_it_listens(container: dict[str, Any]) -> None:
    async def nothing() -> None:
        return

    routes = {
        getattr(route, "path", None)
        for route in endpoint(Process({}, nothing, list, lambda _: (b"", ""))).routes
    }
    environment = {one["name"]: one["value"] for one in container["env"]}
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in routes
        assert str(ports[container[probe]["httpGet"]["port"]]) == environment["OUTBOX_HTTP_PORT"]
    # Postgres away is no reason to restart: only what hangs is.
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    read = Settings.model_validate(
        {name.removeprefix("OUTBOX_").lower(): v for name, v in environment.items()}
    )
    assert read.http_host == "0.0.0.0"


def test_the_commands_of_the_examples_can_be_typed(container: dict[str, Any], unit: dict[str, str]) -> None:
    command: Any = typer.main.get_command(app)
    parse(command, "outbox", list(container["args"]))
    program, *words = unit["ExecStart"].split()
    assert Path(program).name == "outbox"
    parse(command, "outbox", words)


def test_there_is_time_to_drain_before_the_kill(container: dict[str, Any], unit: dict[str, str]) -> None:
    assert container["grace"] > SETTINGS.drain_seconds + 5
    assert int(unit["TimeoutStopSec"]) > SETTINGS.drain_seconds + 5


def test_the_watchdog_bites_later_than_a_loop_counts_as_hung(unit: dict[str, str]) -> None:
    assert unit["Type"] == "notify"
    assert int(unit["WatchdogSec"]) > HUNG_SECONDS
