"""The code of the version before: what a process that has not been rolled yet runs."""

import tarfile
from pathlib import Path

_ARCHIVE = Path(__file__).with_name("before-0002.tar.xz")


def unpack(folder: Path) -> dict[str, str]:
    """Unpack it into a folder; what the environment of a process needs to run it."""
    with tarfile.open(_ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return {"PYTHONPATH": str(folder)}
