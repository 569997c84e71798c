"""What a caller may rely on, one line a name; and what a change of it would break.

`make docs` writes it to docs/api.txt, so that a change is seen where changes are read.
`make api AGAINST=v0.2.0` names what those have to change who call that version.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/api.txt"
_MODULES = ("outbox", "outbox.sync", "outbox.testing")
_OF_PYDANTIC = {"model_config", "model_post_init"}


def load(root: Path = ROOT) -> griffe.Module:
    """The package as it stands in a folder; nothing of it is run."""
    return _resolved(
        griffe.load("outbox", search_paths=[root], try_relative_path=False, resolve_aliases=True)
    )


def load_version(ref: str) -> griffe.Module:
    """The package as it was at a commit or tag."""
    return _resolved(griffe.load_git("outbox", ref=ref, repo=ROOT, resolve_aliases=True))


def _resolved(found: griffe.Object | griffe.Alias) -> griffe.Module:
    if not isinstance(found, griffe.Module):
        raise TypeError(f"{found.path} is no module")
    return found


def public(package: griffe.Module) -> dict[str, griffe.Object]:
    """What may be called, by the name that callers know it by."""
    found: dict[str, griffe.Object] = {}
    for name in _MODULES:
        module = package if name == package.path else package[name.partition(".")[2]]
        for member in module.exports or _defined(module):
            one = module[str(member)]
            if not one.is_module:
                found[f"{name}.{member}"] = one.final_target if isinstance(one, griffe.Alias) else one
    return found


def _defined(module: griffe.Object | griffe.Alias) -> list[str]:
    """The public functions that a module without a list of its names has."""
    return [name for name, one in module.functions.items() if not (name.startswith("_") or one.is_alias)]


def listing(package: griffe.Module) -> str:
    """The whole, as text."""
    lines = [line for name, one in sorted(public(package).items()) for line in _lines(name, one)]
    return "\n".join(lines) + "\n"


def _lines(name: str, one: griffe.Object) -> Iterator[str]:
    match one:
        case griffe.Function():
            asynchronous = "async " if "async" in one.labels else ""
            yield f"{asynchronous}def {one.signature(name=name)}"
        case griffe.Class():
            bases = ", ".join(str(base) for base in one.bases)
            yield f"class {name}({bases})" if bases else f"class {name}"
            for member in _members(one):
                yield from (f"  {line}" for line in _lines(member.name, member))
        case griffe.Attribute():
            value = f" = {one.value}" if one.value is not None else ""
            yield f"{name}: {one.annotation}{value}" if one.annotation is not None else f"{name}{value}"


def _members(one: griffe.Class) -> Iterator[griffe.Object]:
    """The members of a class that callers see, its own and those of the bases that are ours."""
    for name, member in sorted(one.all_members.items()):
        if (not name.startswith("_") or name == "__init__") and name not in _OF_PYDANTIC:
            yield member.final_target if isinstance(member, griffe.Alias) else member


def broken(before: griffe.Module, now: griffe.Module) -> list[str]:
    """What callers of the one have to change for the other."""
    paths = {one.path for one in public(before).values()}
    gone = [f"- `{name}`: *Public object was removed*" for name in public(before).keys() - public(now).keys()]
    changed = [
        one.explain(griffe.ExplanationStyle.MARKDOWN)
        for one in griffe.find_breaking_changes(before, now)
        if any(f"{one.obj.path}.".startswith(f"{path}.") for path in paths)
    ]
    return sorted([*gone, *changed])


def main() -> int:
    """Write the listing, or compare with a version; 1 if that is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.packaging.api", description=__doc__)
    parser.add_argument("--against", help="a commit or tag; default: write docs/api.txt")
    against = parser.parse_args().against
    if against is None:
        PAGE.write_text(listing(load()), "utf-8")
        return 0
    found = broken(load_version(against), load())
    sys.stdout.write("".join(f"{line}\n" for line in found) or f"whoever calls {against} can call this\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
