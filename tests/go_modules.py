"""What Go code stands on, brought beforehand: Go tells of what it downloads among all else that it prints."""

import subprocess
from pathlib import Path


def download(folder: Path) -> None:
    """Bring the modules that the folder's lock file names."""
    done = subprocess.run(["go", "mod", "download"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
