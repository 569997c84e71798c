"""The chart and the manifests: what Kubernetes takes, what names what, and how little each process may do."""

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml  # type: ignore[import-untyped]
from pydantic import SecretStr

from outbox.cli.main import app
from outbox.settings import Settings
from outbox.telemetry.http import Process
from outbox.telemetry.http import app as endpoint
from tests.deploy.rendered import CHART, KUSTOMIZE, chart_of_this_version, files, template
from tests.deploy.tools import run
from tests.docs.pages import ROOT
from tests.docs.test_commands import parse

Object = dict[str, Any]

EVERYTHING = (
    "settings.OUTBOX_WIRE=kafka",
    "existingTlsSecret=tls",
    "console.enabled=true",
    "prune.enabled=true",
    "verify.enabled=true",
    "networkPolicy.enabled=true",
    "prometheus.podMonitor=true",
    "prometheus.rules=true",
    "migrate.authzSchema=apply",
    "serviceAccountName=outbox",
    "imagePullSecrets[0].name=registry",
)
CUSTOM = {"PodMonitor", "PrometheusRule"}
SETTINGS = Settings.model_validate({})


def loaded(text: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(text) if one]


@pytest.fixture(scope="module")
def least() -> list[Object]:
    return loaded(template())


@pytest.fixture(scope="module")
def everything() -> list[Object]:
    return loaded(template(*EVERYTHING))


@pytest.fixture(scope="module")
def overlay() -> list[Object]:
    return loaded(run("kubectl", "kustomize", KUSTOMIZE / "overlays/example"))


@pytest.fixture(scope="module")
def manifests(least: list[Object], everything: list[Object], overlay: list[Object]) -> list[Object]:
    return [*least, *everything, *overlay]


def template_of(manifest: Object) -> Object | None:
    """The pod of it: its metadata and its spec."""
    match manifest["kind"]:
        case "Pod":
            return manifest
        case "Deployment" | "Job":
            found: Object = manifest["spec"]["template"]
        case "CronJob":
            found = manifest["spec"]["jobTemplate"]["spec"]["template"]
        case _:
            return None
    return found


def pods(manifests: list[Object]) -> Iterator[Object]:
    yield from filter(None, map(template_of, manifests))


def containers(manifests: list[Object]) -> Iterator[Object]:
    for pod in pods(manifests):
        yield from pod["spec"].get("initContainers", [])
        yield from pod["spec"]["containers"]


def named(manifests: list[Object], kind: str, name: str) -> Object:
    (found,) = (one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def environment(container: Object) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container.get("env", [])}


def test_the_manifests_are_what_make_manifests_writes() -> None:
    for path, text in files().items():
        assert path.read_text("utf-8") == text, f"{path}: run `make manifests`"


@pytest.mark.parametrize("values", [(), EVERYTHING], ids=["least", "everything"])
def test_the_chart_passes_helms_own_check(values: tuple[str, ...]) -> None:
    run("helm", "lint", "--strict", CHART, *(f"--set={one}" for one in values))


def test_the_chart_deploys_this_version() -> None:
    assert (CHART / "Chart.yaml").read_text("utf-8") == chart_of_this_version(), "run `make manifests`"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("worker.replica=3", "replica"),
        ("settings.outbox_wire=kafka", "outbox_wire"),
        ("settings.OUTBOX_SPICEDB_TOKEN=secret", "OUTBOX_SPICEDB_TOKEN"),
        ("image.digest=latest", "digest"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_its_name(value: str, named: str) -> None:
    with pytest.raises(RuntimeError, match=named):
        template(value)


@pytest.mark.parametrize("release", ["1.25", kubernetes_validate.latest_version()])
def test_kubernetes_knows_every_field(manifests: list[Object], release: str) -> None:
    ours = [one for one in manifests if one["kind"] not in CUSTOM]
    assert {one["kind"] for one in ours} >= {
        "Deployment",
        "Job",
        "CronJob",
        "NetworkPolicy",
        "Service",
        "Pod",
    }
    for manifest in ours:
        kubernetes_validate.validate(manifest, release, strict=True)


def test_the_oldest_version_is_the_one_that_the_chart_asks_for() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["kubeVersion"] == ">=1.25.0-0"


def test_every_pod_keeps_to_the_restricted_standard(manifests: list[Object]) -> None:
    """And a token of Kubernetes' is in none."""
    for pod in pods(manifests):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert {tuple(set(volume) - {"name"}) for volume in spec["volumes"]} <= {("emptyDir",), ("secret",)}
    for container in containers(manifests):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= set(container["resources"])


def test_no_service_of_the_namespace_becomes_a_setting(manifests: list[Object]) -> None:
    """A Service outbox-console would set OUTBOX_CONSOLE_PORT to tcp://…"""
    assert all(pod["spec"]["enableServiceLinks"] is False for pod in pods(manifests))


def test_every_process_is_of_the_images_user(manifests: list[Object]) -> None:
    (user,) = re.findall(r"^USER (\d+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert {pod["spec"]["securityContext"]["runAsUser"] for pod in pods(manifests)} == {int(user)}


def test_commands_can_be_typed(manifests: list[Object]) -> None:
    command: Any = typer.main.get_command(app)
    typed = {tuple(container["args"]) for container in containers(manifests)}
    assert {words[0] for words in typed} == {
        *("run", "relay", "console", "migrate", "authz-schema", "prune", "verify", "doctor")
    }
    for words in typed:
        parse(command, "outbox", list(words))


def test_verifying_everything_is_asked_for_by_no_time() -> None:
    (job,) = loaded(template("verify.enabled=true", "verify.since=", only="verify.yaml"))
    (container,) = containers([job])
    assert container["args"] == ["verify", "--json"]


def test_settings_in_the_environment_are_settings(manifests: list[Object]) -> None:
    for container in containers(manifests):
        for name in environment(container):
            assert name.removeprefix("OUTBOX_").lower() in Settings.model_fields, name
    generated = [one for one in manifests if one["kind"] == "ConfigMap"]
    assert generated
    for name in generated[0]["data"]:
        assert name.removeprefix("OUTBOX_").lower() in Settings.model_fields, name


def test_what_is_secret_is_refused_among_the_settings() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text("utf-8"))
    refused = schema["properties"]["settings"]["propertyNames"]["not"]["enum"]
    secret = {
        f"OUTBOX_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if field.annotation in {SecretStr, SecretStr | None}
    }
    assert set(refused) == secret


def test_large_numbers_and_truths_come_as_they_are_meant() -> None:
    (deployment,) = (
        one
        for one in loaded(
            template("settings.OUTBOX_MAX_REQUEST_BYTES=1048576", "settings.OUTBOX_SPICEDB_TLS=false")
        )
        if one["kind"] == "Deployment"
    )
    (container,) = containers([deployment])
    found = environment(container)
    assert (found["OUTBOX_MAX_REQUEST_BYTES"], found["OUTBOX_SPICEDB_TLS"]) == ("1048576", "false")


def test_probes_ask_for_paths_that_there_are_where_it_listens(manifests: list[Object]) -> None:
    async def nothing() -> None:
        return

    routes = {
        getattr(route, "path", None)
        for route in endpoint(Process({}, nothing, list, lambda _: (b"", ""))).routes
    }
    probed = [container for container in containers(manifests) if "livenessProbe" in container]
    assert {container["name"] for container in probed} == {"worker", "relay", "console"}
    for container in probed:
        # Postgres away is no reason to restart: only what hangs is.
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        ports = {one["name"]: str(one["containerPort"]) for one in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["path"] in routes
            told = environment(container)
            host, port = (
                ("OUTBOX_CONSOLE_HOST", "OUTBOX_CONSOLE_PORT")
                if container["name"] == "console"
                else ("OUTBOX_HTTP_HOST", "OUTBOX_HTTP_PORT")
            )
            assert (told[host], told[port]) == ("0.0.0.0", ports[asked["port"]])


def test_the_console_is_probed_as_it_speaks() -> None:
    def schemes(*values: str) -> set[str]:
        console = template("console.enabled=true", *values, only="console.yaml")
        (container,) = containers(loaded(console))
        return {container[probe]["httpGet"]["scheme"] for probe in container if probe.endswith("Probe")}

    assert schemes() == {"HTTP"}
    assert schemes("settings.OUTBOX_CONSOLE_TLS_CERT=/etc/outbox/tls/tls.crt") == {"HTTPS"}


def test_there_is_time_to_drain_before_the_kill(manifests: list[Object]) -> None:
    working = [one for one in pods(manifests) if one["spec"]["containers"][0]["args"][0] in {"run", "relay"}]
    assert working
    for pod in working:
        assert pod["spec"]["terminationGracePeriodSeconds"] > SETTINGS.drain_seconds + 5


def test_a_rollout_takes_no_worker_away_before_a_new_one_is_ready(everything: list[Object]) -> None:
    for name in ("outbox-worker", "outbox-relay"):
        spec = named(everything, "Deployment", name)["spec"]
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert spec["replicas"] >= 2


def chosen(manifests: list[Object], selector: Object) -> set[str]:
    """The components whose pods a selector chooses."""
    found = set()
    for pod in pods(manifests):
        labels = pod["metadata"]["labels"]
        matches = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
        listed = all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", []))
        if matches and listed:
            found.add(labels["app.kubernetes.io/component"])
    return found


@pytest.mark.parametrize("source", ["everything", "overlay"])
def test_what_chooses_pods_chooses_those_that_it_is_for(source: str, request: pytest.FixtureRequest) -> None:
    manifests = request.getfixturevalue(source)

    def of(kind: str, name: str, *path: str) -> set[str]:
        selector = named(manifests, kind, name)["spec"]
        for key in path:
            selector = selector[key]
        return chosen(manifests, selector)

    every = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods(manifests)}
    for component in ("worker", "relay"):
        assert of("PodDisruptionBudget", f"outbox-{component}", "selector") == {component}
        assert of("Deployment", f"outbox-{component}", "selector") == {component}
    service = named(manifests, "Service", "outbox-console")["spec"]["selector"]
    assert chosen(manifests, {"matchLabels": service}) == {"console"}
    assert of("NetworkPolicy", "outbox", "podSelector") == every
    assert of("NetworkPolicy", "outbox-scrapers", "podSelector") == {"worker", "relay"}
    assert of("NetworkPolicy", "outbox-visitors", "podSelector") == {"console"}
    assert of("PodMonitor", "outbox", "selector") == {"worker", "relay"}


def test_the_alerts_are_those_of_the_runbook(everything: list[Object]) -> None:
    rules = yaml.safe_load((ROOT / "docs/examples/prometheus/alerts.yaml").read_text("utf-8"))
    assert named(everything, "PrometheusRule", "outbox")["spec"] == rules


def test_a_pod_is_scraped_once(least: list[Object], everything: list[Object], overlay: list[Object]) -> None:
    def annotated(manifests: list[Object]) -> set[str]:
        return {
            pod["metadata"]["labels"]["app.kubernetes.io/component"]
            for pod in pods(manifests)
            if "prometheus.io/scrape" in pod["metadata"].get("annotations", {})
        }

    assert annotated(least) == {"worker"}
    assert annotated(everything) == annotated(overlay) == set()


def test_each_process_has_the_database_role_that_it_needs(manifests: list[Object]) -> None:
    secrets = {
        (container["name"], one["secretRef"]["name"])
        for container in containers(manifests)
        for one in container["envFrom"]
        if "secretRef" in one
    }
    assert secrets == {
        ("migrate", "outbox-owner"),
        ("authz-schema", "outbox-owner"),
        ("worker", "outbox-worker"),
        ("relay", "outbox-worker"),
        ("console", "outbox-operator"),
        ("prune", "outbox-operator"),
        ("verify", "outbox-operator"),
        ("doctor", "outbox-operator"),
    }


def test_an_overlays_settings_reach_every_process(overlay: list[Object]) -> None:
    (settings,) = (one for one in overlay if one["kind"] == "ConfigMap")
    assert settings["data"]["OUTBOX_WIRE"] == "kafka"
    assert settings["data"]["OUTBOX_TEMPORAL_NAMESPACE"] == "agents"
    names = {
        one["configMapRef"]["name"]
        for container in containers(overlay)
        for one in container["envFrom"]
        if "configMapRef" in one
    }
    assert names == {settings["metadata"]["name"]}
    assert all(len(container["envFrom"]) == 2 for container in containers(overlay))


@pytest.mark.parametrize("source", ["everything", "overlay"])
def test_every_process_finds_the_files_for_tls(source: str, request: pytest.FixtureRequest) -> None:
    manifests = request.getfixturevalue(source)
    for pod in pods(manifests):
        (secret,) = (one["secret"] for one in pod["spec"]["volumes"] if one["name"] == "tls")
        # libpq takes a key of root's that the group may read, and none with wider rights.
        assert secret["defaultMode"] == 0o440
        assert pod["spec"]["securityContext"]["fsGroup"] == pod["spec"]["securityContext"]["runAsGroup"]
    for container in containers(manifests):
        assert {"name": "tls", "mountPath": "/etc/outbox/tls", "readOnly": True} in container["volumeMounts"]
