"""Which extra each module of the package needs; as a script, imports all that an extra promises.

The script runs where nothing is installed but the package and that extra, so it uses nothing else.
"""

import importlib
import pkgutil
import sys

# The smallest extra with which a module can be imported; what is not named goes with the package above it.
PARTS = {
    "": (
        "outbox",
        "outbox.clock",
        "outbox.current",
        "outbox.documentation",
        "outbox.errors",
        "outbox.extras",
        "outbox.failpoints",
        "outbox.flow",
        "outbox.producer",
        "outbox.pulse",
        "outbox.sync",
        "outbox.when",
    ),
    "cli": ("outbox.__main__", "outbox.cli", "outbox.settings", "outbox.store", "outbox.supervision"),
    "worker": (
        "consumers",
        "outbox.audit",
        "outbox.compose",
        "outbox.testing",
        "outbox.verify",
        "outbox.worker",
    ),
    "kafka": ("outbox.compose.kafka", "outbox.kafka"),
    "telemetry": ("outbox.telemetry",),
    "console": ("outbox.console",),
    "mcp": ("outbox.mcp",),
    "embedded": ("outbox.cli.playing", "outbox.demo", "outbox.stack"),
    "testing": (
        "outbox.testing.backstage",
        "outbox.testing.databases",
        "outbox.testing.plugin",
        "outbox.testing.trial",
    ),
}
# Alembic runs these, and gives them what they import.
_SCRIPTS = "outbox._migrations"


def part(module: str) -> str:
    """The extra that a module needs."""
    extra_of = {name: extra for extra, names in PARTS.items() for name in names}
    named = module
    while named != "outbox" and named not in extra_of:
        named = named.rpartition(".")[0]
    if named == "outbox" != module:
        raise LookupError(f"{module} is of no part: name it in {__file__}")
    return extra_of[named]


def modules(extra: str) -> list[str]:
    """The modules that an extra promises, beyond those of the extras that it includes."""
    found = [
        one.name
        for top in ("outbox", "consumers")
        for one in pkgutil.walk_packages(importlib.import_module(top).__path__, f"{top}.")
        if not one.name.startswith(_SCRIPTS)
    ]
    return [module for module in ("outbox", "consumers", *found) if part(module) == extra]


if __name__ == "__main__":
    for promised in modules(sys.argv[1]):
        importlib.import_module(promised)
    public = importlib.import_module("outbox")
    for public_name in public.__all__:
        getattr(public, public_name)
