"""Where servers of a test's own have their files."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outbox.testing.handles import memory


@contextmanager
def folder() -> Iterator[Path]:
    """One that is gone after: in memory, if there is room, and of a short name, as it holds unix sockets."""
    with tempfile.TemporaryDirectory(prefix="outbox-", dir=memory()) as name:
        yield Path(name)
