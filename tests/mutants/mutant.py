"""A mutant: one line of the code changed, so that a rule no longer holds."""

import importlib.abc
import importlib.util
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).parents[2]
_LIST = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True)
class Mutant:
    """One line changed.

    Attributes:
        rule: what it breaks, by its number in docs/reliability.md.
        file: below the root of the project; Python or SQL.
        times: how often the old line is there; each is changed.
        first: of Python, the seed that is tried first, as those before it don't come to what is broken.
        seeds: of Python, how many seeds of the simulation may pass before it is caught.
        orders: of SQL, where only what meets shows it: the scenario that is played in every order.
        besides: of SQL, a statement that takes away what would have kept the rule all the same.
    """

    name: str
    rule: str
    file: str
    old: str
    new: str
    times: int = 1
    first: int = 0
    seeds: int = 400
    orders: str = ""
    besides: str = ""

    @property
    def tried(self) -> range:
        """The seeds that may be tried."""
        return range(self.first, self.first + self.seeds)

    def source(self) -> str:
        """The changed text.

        Raises:
            LookupError: the old line is not there so often.
        """
        text = (ROOT / self.file).read_text()
        if (found := text.count(self.old)) != self.times:
            raise LookupError(f"{self.file} has the old line {found} times, not {self.times}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        caught_by: what noticed; None: nothing did.
        told: what it noticed, or why the mutant could not be tried.
    """

    caught_by: str | None
    told: str


def all_mutants() -> list[Mutant]:
    """Read the list."""
    return [Mutant(**entry) for entry in tomllib.loads(_LIST.read_text())["mutant"]]


def put_in_place(file: str, source: str) -> None:
    """Have the module of a file imported as it is in this source; nothing of that is cached."""
    module = file.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, _Finder(module, _Changed(module, file, source)))


class _Changed(SourceFileLoader):
    def __init__(self, module: str, file: str, source: str) -> None:
        super().__init__(module, str(ROOT / file))
        self._source = source

    def get_code(self, fullname: str) -> CodeType | None:
        return compile(self._source, self.get_filename(fullname), "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, loader: _Changed) -> None:
        self._module = module
        self._loader = loader

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname != self._module:
            return None
        return importlib.util.spec_from_loader(fullname, self._loader)
