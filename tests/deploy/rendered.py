"""What `make manifests` writes: the version into the chart, and the chart rendered for Kustomize."""

import re
from importlib.metadata import version
from pathlib import Path

from tests.deploy.tools import run
from tests.docs.pages import ROOT

DEPLOY = ROOT / "docs/deploy"
CHART = DEPLOY / "chart"
KUSTOMIZE = DEPLOY / "kustomize"

_FILES = {
    "base/migrate.yaml": (),
    "base/worker.yaml": (),
    "components/console/console.yaml": ("console.enabled=true",),
    "components/network-policy/network-policy.yaml": ("networkPolicy.enabled=true",),
    "components/prometheus-operator/prometheus.yaml": ("prometheus.podMonitor=true", "prometheus.rules=true"),
    "components/prune/prune.yaml": ("prune.enabled=true",),
    "components/relay/relay.yaml": ("settings.OUTBOX_WIRE=kafka",),
    "components/verify/verify.yaml": ("verify.enabled=true",),
}
_ALWAYS = ("existingConfigMap=outbox", "migrate.hook=false")


def template(*values: str, only: str | None = None) -> str:
    """What the chart makes of some values; of one template only, if it is named."""
    chosen = ["--show-only", f"templates/{only}"] if only else []
    return run("helm", "template", "outbox", CHART, *chosen, *(f"--set={one}" for one in values))


def chart_of_this_version() -> str:
    """``Chart.yaml``, with the version of the package that it deploys."""
    told = (CHART / "Chart.yaml").read_text("utf-8")
    this = version("agent-schedule-outbox")
    return re.sub(r"^appVersion: .*$", f"appVersion: {this}", told, flags=re.MULTILINE)


def files() -> dict[Path, str]:
    """Each file that is rendered, with what belongs in it."""
    return {KUSTOMIZE / name: _file(Path(name).name, *values) for name, values in _FILES.items()}


def _file(name: str, *values: str) -> str:
    documents = template(*_ALWAYS, *values, only=name).removeprefix("---\n").split("\n---\n")
    whole = (document.partition("\n")[2].strip("\n") for document in documents)
    return "# Rendered from docs/deploy/chart by `make manifests`.\n" + "\n---\n".join(whole) + "\n"


if __name__ == "__main__":
    (CHART / "Chart.yaml").write_text(chart_of_this_version(), "utf-8")
    for path, text in files().items():
        path.write_text(text, "utf-8")
