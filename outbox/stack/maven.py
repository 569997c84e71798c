"""Jars from Maven Central, each compared with its checksum."""

import hashlib
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from outbox.stack.errors import StackError

_CENTRAL = "https://repo1.maven.org/maven2"
_SECONDS = 120
_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>outbox</groupId><artifactId>jars</artifactId><version>1</version>
  <dependencies>{}</dependencies>
</project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>"
    "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>"
)


@dataclass(frozen=True, slots=True)
class Jar:
    """One jar, and what it must be."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        """Its file name."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        """Where a Maven repository has it."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.name}"

    def is_whole(self, file: Path) -> bool:
        """Whether a file is this jar, to the last byte."""
        return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == self.sha256


def listed(file: Path) -> list[Jar]:
    """The jars that a file lists, one a line."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return [Jar(*line.replace(" ", ":").split(":")) for line in lines]


def cache() -> Path:
    """Where what is fetched is kept: a folder of the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "agent-schedule-outbox"


def fetch(jars: Sequence[Jar], folder: Path, what: str) -> None:
    """Bring jars into a folder; ``what`` they are for goes into the error.

    Where there is `mvn`, it fetches them, by the mirrors of its settings; else they come from Maven Central,
    or from the repository that MAVEN_REPO_URL names.

    Raises:
        StackError: they can't be had, or are not what they should be.
    """
    if "MAVEN_REPO_URL" in os.environ or not _by_maven(jars, folder):
        _by_https(jars, folder, what)
    for jar in jars:
        if not jar.is_whole(folder / jar.name):
            raise StackError(f"{jar.path} is not the file that it should be: its SHA-256 differs")


def _by_maven(jars: Sequence[Jar], folder: Path) -> bool:
    mvn = shutil.which("mvn")
    if mvn is None:
        return False
    wanted = "".join(_DEPENDENCY.format(jar.group, jar.artifact, jar.version) for jar in jars)
    (folder / "pom.xml").write_text(_POM.format(wanted))
    command = [mvn, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=10 * _SECONDS)
    return done.returncode == 0


def _by_https(jars: Sequence[Jar], folder: Path, what: str) -> None:
    base = os.environ.get("MAVEN_REPO_URL", _CENTRAL).rstrip("/")
    if not base.startswith("https://"):
        raise StackError("MAVEN_REPO_URL must begin with https://")

    def get(jar: Jar) -> None:
        with (
            urllib.request.urlopen(f"{base}/{jar.path}", timeout=_SECONDS) as answer,  # noqa: S310 - https, above
            (folder / jar.name).open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)

    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(get, jars))
    except OSError as error:
        raise StackError(
            f"{what} can't be fetched from {base}: {error} (MAVEN_REPO_URL names another repository)"
        ) from error
