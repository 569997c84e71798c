"""Alerts and the dashboard ask for metrics there are; each alert fires, goes quiet, and is explained."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from outbox.telemetry import catalogue
from outbox.telemetry.catalogue import Kind
from tests.docs.pages import Page
from tests.telemetry.prometheus import EXAMPLES, prometheus, served
from tests.telemetry.test_endpoint import endpoint

__all__ = ["prometheus"]

RUNBOOK = Page("docs/runbook.md")
METRICS = {
    metric.prometheus: metric
    for metric in (*catalogue.OF_A_WORKER, *catalogue.OF_A_RELAY, *catalogue.OF_THE_OUTBOX)
}
NAME = re.compile(r"\boutbox_\w+")
MATCHERS = re.compile(r"(outbox_\w+)\{([^}]*)\}")


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((EXAMPLES / "alerts.yaml").read_text("utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@pytest.fixture(scope="module")
def queries() -> list[str]:
    """What the dashboard asks, as Grafana would fill it in."""
    panels = json.loads((EXAMPLES / "dashboard.json").read_text("utf-8"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    return [one.replace("$job", ".+").replace("$__rate_interval", "1m") for one in asked]


def test_what_is_asked_for_is_measured(rules: list[dict[str, Any]], queries: list[str]) -> None:
    for asked in [*(rule["expr"] for rule in rules), *queries]:
        for name in NAME.findall(asked):
            of_buckets = name.endswith("_bucket")
            metric = METRICS[name.removesuffix("_bucket")]
            assert of_buckets == (metric.kind is Kind.HISTOGRAM), asked
        for name, matchers in MATCHERS.findall(asked):
            labels = set(re.findall(r"(\w+)\s*(?:=|!)", matchers)) - {"job"}
            assert labels <= set(METRICS[name.removesuffix("_bucket")].labels), asked


def test_each_alert_is_explained_and_nothing_else_is(rules: list[dict[str, Any]]) -> None:
    names = {rule["alert"] for rule in rules}
    sections = re.findall(r"^## (Outbox\w+)$", RUNBOOK.text, re.MULTILINE)
    assert sorted(names) == sorted(sections)
    for rule in rules:
        assert rule["annotations"]["runbook"] == f"{RUNBOOK.name}#{rule['alert'].lower()}"
        assert {"summary", "command"} <= set(rule["annotations"])


def test_each_alert_fires_and_goes_quiet(rules: list[dict[str, Any]], prometheus: Path) -> None:
    cases = EXAMPLES / "alerts_test.yaml"
    ran = subprocess.run(
        [prometheus / "promtool", "test", "rules", cases], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    tried = re.findall(
        r'alertname="(\w+)",alertstate="firing",[^}]*severity="(\w+)"', cases.read_text("utf-8")
    )
    assert set(tried) == {(rule["alert"], rule["labels"]["severity"]) for rule in rules}


async def test_prometheus_can_ask_all_of_it_of_a_real_outbox(
    database: str, queries: list[str], prometheus: Path, tmp_path: Path
) -> None:
    """And what every outbox has at any time is not empty."""
    always = {"waiting", "parked", "breaker_open", "queue_size", "queue_dead_rows", "build_info"}
    async with endpoint(database) as port:
        with served(prometheus, [port], EXAMPLES / "alerts.yaml", tmp_path) as server:
            server.wait_for("outbox_queue_dead_rows")
            for query in queries:
                found = server.ask(query)
                if NAME.findall(query)[0].removeprefix("outbox_").removesuffix("_bytes") in always:
                    assert found, query
