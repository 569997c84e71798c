"""A file system with little room, for the server whose data lies there."""

import contextlib
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallDisk:
    """Where it is mounted."""

    home: Path

    @contextlib.contextmanager
    def full(self, *, left: int) -> Iterator[None]:
        """Inside, something else has taken all of the room but so many bytes."""
        filler = self.home / "filler"
        try:
            with filler.open("wb") as file:
                while (room := self._room() - left) > 0 and not _taken(file.fileno(), room):
                    pass
            yield
        finally:
            filler.unlink()

    def _room(self) -> int:
        disk = os.statvfs(self.home)
        return disk.f_bavail * disk.f_frsize


def _taken(file: int, room: int) -> bool:
    """Give a file so many bytes; False: the server has taken some of them meanwhile."""
    try:
        os.posix_fallocate(file, 0, room)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[SmallDisk]:
    """Inside, a file system of so many bytes is there; a host that lets nobody mount one skips the test."""
    with tempfile.TemporaryDirectory(prefix="outbox-") as home:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", home]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("this host lets nobody mount a file system")
        try:
            yield SmallDisk(Path(home))
        finally:
            subprocess.run(["umount", "--lazy", home], check=True)
