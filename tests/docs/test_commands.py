"""What the pages tell people to type exists: commands with their options, make targets, links, files."""

import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import typer

from outbox.cli.commands_page import page as page_of_commands
from outbox.cli.main import COMMANDS, app
from tests.docs.pages import PAGES, ROOT, Page

CLI: Any = typer.main.get_command(app)
_ENDS = {"|", "||", "&&", ";", ">", ">>", "2>", "<", "&"}


def typed(page: Page) -> Iterator[list[str]]:
    """The command lines of a page: what stands after a prompt, and each line of a script."""
    for block in page.blocks("console"):
        yield from _commands(line[2:] for line in block.splitlines() if line.startswith("$ "))
    for block in page.blocks("sh"):
        yield from _commands(block.replace("\\\n", " ").splitlines())


def _commands(lines: Any) -> Iterator[list[str]]:
    for line in lines:
        command: list[str] = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if word not in _ENDS:
                command.append(word)
            elif command:
                yield command
                command = []


LINES = [(page, command) for page in PAGES for command in typed(page)]
OUTBOX = [(page, command[1:]) for page, command in LINES if command[0] == "outbox"]
MAKE = [(page, command[1:]) for page, command in LINES if command[0] == "make"]
# In prose, between backquotes.
MENTIONED = [
    (page, shlex.split(words))
    for page in PAGES
    for words in re.findall(r"`outbox ([a-z][^`…]*)`", page.prose())
]


@cache
def commands_of(command: Any) -> Mapping[str, Any]:
    """The commands below one, by name; making all of them takes a while."""
    if command is CLI:
        return {name: CLI.get_command(None, name) for name in COMMANDS}
    return getattr(command, "commands", {})


def parse(command: Any, name: str, words: list[str]) -> None:
    """Parse the words as the command line does; UsageError if it would refuse them."""
    subcommands = commands_of(command)
    if not subcommands:
        command.make_context(name, list(words))
        return
    while words and words[0].startswith("-"):
        assert words[0] in {option for parameter in command.params for option in parameter.opts}, words[0]
        words = words[1:]
    assert words, f"{name} needs a command"
    assert words[0] in subcommands, f"there is no {name} {words[0]}"
    parse(subcommands[words[0]], words[0], words[1:])


@pytest.mark.parametrize(("page", "words"), OUTBOX, ids=str)
def test_commands_can_be_typed_as_they_stand(page: Page, words: list[str]) -> None:
    del page  # for the test's name
    parse(CLI, "outbox", words)


@pytest.mark.parametrize(("page", "words"), MENTIONED, ids=str)
def test_commands_mentioned_exist(page: Page, words: list[str]) -> None:
    command = CLI
    while words and words[0] in commands_of(command):
        command, words = commands_of(command)[words[0]], words[1:]
    assert command is not CLI, f"{page} mentions outbox {words}"
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_an_unknown_option_would_be_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(CLI, "outbox", ["run", "--bogus"])
    with pytest.raises(AssertionError, match="there is no"):
        parse(CLI, "outbox", ["bogus"])


def test_the_page_of_commands_is_what_make_docs_writes() -> None:
    assert Page("docs/commands.md").text == page_of_commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_commands_has_each_with_its_options(name: str) -> None:
    below = commands_of(commands_of(CLI)[name]) or {"": commands_of(CLI)[name]}
    for sub, command in below.items():
        title = f"outbox {name} {sub}".strip()
        section = re.search(rf"^##+ {title}\n(.*?)(?=^##|\Z)", page_of_commands(), re.MULTILINE | re.DOTALL)
        assert section, title
        for parameter in command.params:
            for option in parameter.opts if parameter.opts[0].startswith("-") else ():
                assert re.search(rf"^\| `(.*, )?{option}\b", section[1], re.MULTILINE), option


def test_pages_have_commands_at_all() -> None:
    assert {page.name for page, _ in OUTBOX} >= {"README.md", "docs/schema.md"}


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {words[0] for _, words in MAKE}
    named |= {name for page in PAGES for name in re.findall(r"`make (\w+)", page.prose())}
    assert named
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=repr)
def test_links_lead_somewhere(page: Page) -> None:
    prose = page.prose()
    for link in re.findall(r"\]\(([^)]+)\)", prose) + re.findall(r'(?:src|srcset)="([^"]+)"', prose):
        if ":" in link:
            assert re.fullmatch(r"https://(\w[\w-]*\.)+[a-z]{2,}(/[^\s]*)?", link), link
            continue
        name, _, heading = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        assert target.is_file(), f"{link}: a folder is no page of the site"
        if heading:
            assert heading in headings(Page(str(target.relative_to(ROOT)))), link


def headings(page: Page) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.prose(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_module_tree_matches_the_code() -> None:
    (tree,) = (block for block in Page("docs/architecture.md").blocks("") if block.startswith("outbox/  "))
    written: set[str] = set()
    folders: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        for word in line.split():
            if re.fullmatch(r"\w+/", word):
                folders = [*folders[:depth], word]
            elif re.fullmatch(r"[\w/]+\.(py|zed|sql)", word):
                written.add("".join(folders[:depth]) + word)
            else:
                break
    tops = ("outbox", "consumers", "migrations")
    files = {str(path.relative_to(ROOT)) for top in tops for path in (ROOT / top).rglob("*.*")}
    assert written <= files
    # What the tree leaves out on purpose.
    told = {name for name in files if name.endswith((".py", ".zed")) and "/versions/" not in name}
    quiet = {name for name in told if name.endswith("__init__.py") or name.startswith("outbox/demo/")}
    assert told - written - quiet == {"migrations/env.py"}


def test_the_readme_names_every_folder_of_tests() -> None:
    folders = {f"tests/{path.parent.name}" for path in (ROOT / "tests").glob("*/test_*.py")}
    assert set(re.findall(r"tests/\w+", Page("README.md").prose())) == folders
