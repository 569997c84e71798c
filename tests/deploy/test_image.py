"""The image, and Compose's file that starts it: what their own tools say, and what a process may do there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]

from outbox.cli.main import app
from outbox.settings import Settings
from tests.deploy.rendered import DEPLOY
from tests.deploy.test_manifests import Object
from tests.docs.pages import ROOT
from tests.docs.test_commands import parse
from tests.telemetry.prometheus import prometheus

__all__ = ["prometheus"]

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE: Object = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
OURS = {name: one for name, one in COMPOSE["services"].items() if one["image"] == "agent-schedule-outbox"}
BIN = Path(sys.executable).parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def check(program: str, *arguments: str | Path) -> None:
    done = subprocess.run([BIN / program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_passes_its_linter() -> None:
    check("hadolint", ROOT / "Dockerfile")


def test_both_stages_stand_on_one_image_that_is_named_by_digest() -> None:
    assert re.search(r"^ARG PYTHON=python:3\.\d+-slim@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${PYTHON}"] * 2


def test_the_user_has_a_name() -> None:
    """libpq refuses to connect for one who has none, where the URL names no user."""
    (user,) = re.findall(r"^USER (\d+):", DOCKERFILE, re.MULTILINE)
    assert re.search(rf"^RUN .*\buseradd .*--uid {user} ", DOCKERFILE, re.MULTILINE)


def test_it_is_built_from_what_docker_is_given() -> None:
    given = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE))
    copied = {
        source
        for sources in re.findall(r"^COPY ([^-].*) \S+$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()
    }
    assert copied == given
    assert all((ROOT / name).exists() for name in copied)


def test_it_can_do_all_that_is_deployed() -> None:
    """The extras that it installs bring what each process needs, those that they name included."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    (listed,) = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    found: set[str] = set()
    more = set(listed.split(","))
    while more:
        found |= more
        named = (
            re.findall(r"^agent-schedule-outbox\[([\w,]+)\]", one) for name in more for one in extras[name]
        )
        more = {extra for ones in named for one in ones for extra in one.split(",")} - found
    assert found >= {"cli", "worker", "kafka", "telemetry", "console"}
    assert not found & {"embedded", "mcp", "testing"}


def test_compose_takes_the_file() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml")


def test_github_takes_the_workflows() -> None:
    assert WORKFLOWS
    check("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)


@pytest.mark.parametrize("name", OURS)
def test_a_process_in_compose_may_do_nothing_but_talk_to_servers(name: str) -> None:
    service = OURS[name]
    assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_commands_in_compose_can_be_typed() -> None:
    assert set(OURS) == {"setup", "worker", "relay", "console"}
    command: Any = typer.main.get_command(app)
    (script,) = OURS["setup"]["command"]
    for words in [
        *script.split(" && "),
        *(" ".join(["outbox", *OURS[one]["command"]]) for one in OURS if one != "setup"),
    ]:
        program, *rest = words.split()
        assert program == "outbox"
        parse(command, "outbox", rest)


def test_what_works_in_compose_is_asked_where_it_listens_and_has_time_to_drain() -> None:
    scraped = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text("utf-8"))["scrape_configs"]
    ((target,),) = (one["dns_sd_configs"] for one in scraped)
    assert target["names"] == ["worker", "relay"]
    for name in target["names"]:
        service = OURS[name]
        assert (
            int(service["stop_grace_period"].removesuffix("s"))
            > Settings.model_validate({}).drain_seconds + 5
        )
        assert service["environment"]["OUTBOX_HTTP_PORT"] == str(target["port"])
        assert service["environment"]["OUTBOX_HTTP_HOST"] == "0.0.0.0"
        assert f"http://127.0.0.1:{target['port']}/healthz" in service["healthcheck"]["test"][-1]


def test_prometheus_takes_its_configuration_and_finds_the_alerts(prometheus: Path, tmp_path: Path) -> None:
    mounted = dict(one.split(":")[:2] for one in COMPOSE["services"]["prometheus"]["volumes"])
    (told,) = (ROOT / here for here, there in mounted.items() if there == "/etc/prometheus/prometheus.yml")
    config = yaml.safe_load(told.read_text("utf-8"))
    there = {path: str(ROOT / here) for here, path in mounted.items()}
    config["rule_files"] = [there[path] for path in config["rule_files"]]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    checked = subprocess.run(
        [prometheus / "promtool", "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.search(r"SUCCESS: \d+ rules found", checked.stdout)
