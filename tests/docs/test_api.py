"""The listing of the public API is the code's, and what breaks callers is told."""

import shutil
from pathlib import Path

from tests.packaging.api import PAGE, ROOT, broken, listing, load


def test_the_listing_is_as_the_code_has_it() -> None:
    assert PAGE.read_text("utf-8") == listing(load()), "make docs writes it anew"


def test_what_callers_would_have_to_change_is_told(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "outbox", tmp_path / "outbox")
    names, enqueue = tmp_path / "outbox/__init__.py", tmp_path / "outbox/producer/enqueue.py"
    names.write_text(names.read_text("utf-8").replace('    "wait",\n', ""), "utf-8")
    head, changed, tail = enqueue.read_text("utf-8").partition("async def enqueue_delete(")
    enqueue.write_text(
        head + changed + tail.replace("idempotency_key: str | None = None", "idempotency_key: str | None", 1),
        "utf-8",
    )
    before = load()
    assert broken(before, before) == []
    assert broken(before, load(tmp_path)) == [
        "- `enqueue_delete(idempotency_key)`: *Parameter is now required*",
        "- `outbox.wait`: *Public object was removed*",
    ]
