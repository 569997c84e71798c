"""Packages of Debian's, fetched into the user's cache: nothing is installed."""

import os
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from outbox.stack import maven

_CACHE = maven.cache() / "debian"
_LIBRARY = re.compile(r"\b(lib(?!js-)[\w.+-]+)")


class NotToBeHadError(Exception):
    """The package can't be had here; the message says why."""


@cache
def unpacked(package: str) -> Path:
    """Where a package lies unpacked, with what it needs of libraries that this machine doesn't have.

    Raises:
        NotToBeHadError: there is no such package, no Debian, or no network.
    """
    place = _CACHE / package
    if place.exists():
        return place
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        archive = _download(package, Path(scratch))
        _run("dpkg-deb", "-x", str(archive), str(root))
        for library in _LIBRARY.findall(_run("dpkg-deb", "-f", str(archive), "Depends")):
            if subprocess.run(["dpkg-query", "-W", library], capture_output=True, check=False).returncode:
                _run("dpkg-deb", "-x", str(_download(library, Path(scratch))), str(root))
        try:
            root.rename(place)
        except OSError:
            # Somebody else was quicker.
            if not place.exists():
                raise
    return place


def library_path(root: Path) -> dict[str, str]:
    """What the environment of a program out of an unpacked package needs."""
    folders = sorted({str(one.parent) for one in root.rglob("lib*.so*")})
    return {"LD_LIBRARY_PATH": ":".join(folders)} if folders else {}


def _download(package: str, folder: Path) -> Path:
    try:
        _run("apt-get", "download", package, cwd=folder)
    except NotToBeHadError:
        if os.geteuid() != 0:
            raise
        _run("apt-get", "update", cwd=folder)
        _run("apt-get", "download", package, cwd=folder)
    (found,) = folder.glob(f"{package}_*.deb")
    return found


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotToBeHadError(f"Debian's package can't be had here: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise NotToBeHadError(f"Debian's package can't be had here: {' '.join(command[:3])}: {last}")
    return done.stdout
