"""Finds PgBouncer on this machine, or fetches Debian's package of it into the user's cache."""

import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agent-schedule-outbox" / "pgbouncer"
)
_LIBRARY = re.compile(r"\b(lib[\w.+-]+)")


class NoPgBouncerError(Exception):
    """It is not here and can't be had; the message says why."""


@cache
def pgbouncer() -> tuple[list[str], dict[str, str]]:
    """The command, and what its environment needs.

    Raises:
        NoPgBouncerError: there is none.
    """
    installed = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if installed:
        return [installed], {}
    if not _CACHE.exists():
        _fetch()
    libraries = sorted({str(one.parent) for one in _CACHE.rglob("lib*.so*")})
    paths = {"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}
    return [str(_CACHE / "usr/sbin/pgbouncer")], paths


def _fetch() -> None:
    _CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE.parent) as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        package = _download("pgbouncer", Path(scratch))
        _run("dpkg-deb", "-x", str(package), str(root))
        for library in _LIBRARY.findall(_run("dpkg-deb", "-f", str(package), "Depends")):
            if subprocess.run(["dpkg-query", "-W", library], capture_output=True, check=False).returncode:
                _run("dpkg-deb", "-x", str(_download(library, Path(scratch))), str(root))
        # Whoever comes second finds the work done.
        if not _CACHE.exists():
            root.rename(_CACHE)


def _download(package: str, folder: Path) -> Path:
    try:
        _run("apt-get", "download", package, cwd=folder)
    except NoPgBouncerError:
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
        raise NoPgBouncerError(f"Debian's package can't be had here: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise NoPgBouncerError(f"Debian's package can't be had here: {' '.join(command[:3])}: {last}")
    return done.stdout
