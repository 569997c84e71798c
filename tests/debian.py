"""Packages of Debian's, fetched into the user's cache: nothing is installed."""

import os
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from outbox.stack import maven

_CACHE = maven.cache() / "debian"
_SECONDS = 240
_NEW_LIBRARY = re.compile(r"^Inst (lib(?!js-)\S+) \(", re.MULTILINE)


class NotToBeHadError(Exception):
    """The package can't be had here; the message says why."""


@cache
def unpacked(package: str, *beside: str) -> Path:
    """Where a package lies unpacked, with those named beside it, and with the libraries that they lack here.

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
        wanted = (package, *beside)
        simulated = _apt("install", "--simulate", "--no-install-recommends", *wanted)
        # What is here in another version is taken as it is: the rest of this machine goes with it.
        libraries = set(_NEW_LIBRARY.findall(simulated)) - set(wanted)
        _apt("download", *wanted, *sorted(libraries), cwd=Path(scratch))
        for archive in Path(scratch).glob("*.deb"):
            _run("dpkg-deb", "-x", str(archive), str(root))
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


def _apt(*arguments: str, cwd: Path | None = None) -> str:
    try:
        return _run("apt-get", *arguments, cwd=cwd)
    except NotToBeHadError:
        if os.geteuid() != 0:
            raise
        _run("apt-get", "update")
        return _run("apt-get", *arguments, cwd=cwd)


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotToBeHadError(f"Debian's package can't be had here: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise NotToBeHadError(f"Debian's package can't be had here: {' '.join(command[:3])}: {last}")
    return done.stdout
