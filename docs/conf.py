"""How ``make site`` turns the Markdown pages into a site: the same files and links as on a code host.

Sources are the pages of the whole repository, each at its own path: so a link between two of them is right in
both places.
"""

import re
import shutil
from importlib.metadata import version as installed
from pathlib import Path

from pydantic import BaseModel
from sphinx.application import Sphinx

from outbox.documentation import SITE

ROOT = Path(__file__).parents[1]

project = "agent-schedule-outbox"
version = release = installed(project)
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
]
root_doc = "docs/README"
include_patterns = ["*.md", "docs/**.md", "migrations/sql/README.md"]
# What is walked for pages, too.
exclude_patterns = ["**/.*", ".*", "**/node_modules", "outbox", "consumers", "tests"]
highlight_language = "none"
smartquotes = False  # options begin with two hyphens
toc_object_entries_show_parents = "hide"
# One page shows what lines that are no JSON are answered with.
suppress_warnings = ["misc.highlighting_failure"]

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = project
html_baseurl = SITE
html_static_path = ["site/static"]  # and what draws the diagrams: see the Makefile
html_css_files = ["site.css"]
html_additional_pages = {"index": "index.html"}
templates_path = ["site/templates"]
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"
mermaid_use_local = "mermaid.esm.min.mjs"
mermaid_fullscreen = False
mermaid_height = "auto"

_LINK = re.compile(r"^- \[[^\]]+\]\(([^)#]+)\.md\)", re.MULTILINE)
_INDEXES = {root_doc, "docs/decisions/README", "docs/examples/README"}


def _navigate(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make each section's list of links the site's navigation, too."""
    del app
    if docname not in _INDEXES:
        return
    sections = re.split(r"^(?=## )", source[0], flags=re.MULTILINE)
    source[0] = "".join(section + _toctree(section) for section in sections)


def _toctree(section: str) -> str:
    pages = _LINK.findall(section)
    if not pages:
        return ""
    title = re.match(r"## (.+)", section)
    caption = f":caption: {title[1]}\n" if title else ""
    return "\n```{toctree}\n:hidden:\n" + caption + "\n".join(["", *pages]) + "\n```\n\n"


def _copy_pictures(app: Sphinx, failure: Exception | None) -> None:
    """Put the pictures that are chosen by theme, in HTML, where their pages look for them."""
    if failure is None:
        shutil.copytree(ROOT / "docs/console", app.outdir / "docs/console", dirs_exist_ok=True)


def _name_fields(*about: object) -> tuple[str, str] | None:
    """Show a request's fields as it takes them; what each may hold is said below, or by an error."""
    _, _, _, model, _, _, _ = about
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return None
    fields = ", ".join(
        name if field.is_required() else f"{name}={field.default!r}"
        for name, field in model.model_fields.items()
    )
    return f"(*, {fields})", ""


def setup(app: Sphinx) -> None:
    """Add the hooks."""
    app.connect("source-read", _navigate)
    app.connect("autodoc-process-signature", _name_fields)
    app.connect("build-finished", _copy_pictures)
