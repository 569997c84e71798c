"""Tries a wheel in empty environments: `make dist`.

There is one for each Python and each extra. What the extra promises is imported there, and the command run.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from uv import find_uv_bin

from outbox.cli.running import Code
from outbox.extras import install
from tests.packaging import parts

_UV = find_uv_bin()
_SECONDS = 600


def main() -> int:
    """Try each; 1 if one lacks something."""
    parser = argparse.ArgumentParser(prog="python -m tests.packaging", description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument(
        "pythons", nargs="*", default=[sys.executable], help="interpreters; default: this one"
    )
    options = parser.parse_args()
    failed = 0
    for python in options.pythons:
        version = _output(python, "-c", "import platform; print(platform.python_version())").strip()
        with tempfile.TemporaryDirectory() as folder:
            for extra in parts.PARTS:
                started = time.monotonic()
                wrong = _tried(options.wheel, extra, python, Path(folder))
                failed += wrong is not None
                said = wrong or f"as promised, in {time.monotonic() - started:.1f} s"
                print(f"Python {version:8} {f'[{extra}]' if extra else 'no extra':12} {said}", flush=True)
    count = len(options.pythons) * len(parts.PARTS)
    print(f"{count - failed} passed, {failed} failed")
    return 1 if failed else 0


def _tried(wheel: Path, extra: str, python: str, folder: Path) -> str | None:
    """What is wrong with the wheel where nothing else is installed; None: nothing."""
    environment = folder / "environment"
    # What is compiled for one extra is so for the next, as it lies at the same place.
    compiled = {"PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    try:
        _output(_UV, "venv", "--quiet", "--clear", "--python", python, str(environment))
        _output(_UV, "pip", "install", "--quiet", "--python", str(environment), wanted)
        _output(str(environment / "bin/python"), "-P", parts.__file__, extra, **compiled)
        version = _output(str(environment / "bin/outbox"), "--version", **compiled).strip()
    except subprocess.CalledProcessError as error:
        if not extra and error.returncode == Code.BAD_INPUT and install("cli") in error.stderr:
            return None
        return f"{' '.join(error.cmd)}: {error.stderr}"
    return None if f"-{version}-" in wheel.name else f"it says that it is {version}"


def _output(*command: str, **environment: str) -> str:
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=_SECONDS,
        env=os.environ | environment,
    )
    return ran.stdout


if __name__ == "__main__":
    sys.exit(main())
