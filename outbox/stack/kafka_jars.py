"""Apache Kafka as jars from Maven Central, kept in the user's cache, each compared with its checksum."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from outbox.stack.errors import StackError

VERSION = "4.3.1"
_CENTRAL = "https://repo1.maven.org/maven2"
_SECONDS = 120
_LIST = Path(__file__).with_name("kafka_jars.txt")
_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>outbox</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>{}</dependencies>
</project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>"
    "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>"
)


@dataclass(frozen=True, slots=True)
class Jar:
    """One jar of the list."""

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


def jars() -> list[Jar]:
    """What the broker needs."""
    lines = [line for line in _LIST.read_text().splitlines() if not line.startswith("#")]
    return [Jar(*line.replace(" ", ":").split(":")) for line in lines]


def cache() -> Path:
    """The folder of the jars, in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "agent-schedule-outbox" / f"kafka-{VERSION}"


def ensure(tell: Callable[[str], None] = lambda _: None) -> Path:
    """Bring the jars that are missing into the cache; returns its folder.

    Where there is `mvn`, it fetches them, by the mirrors of its settings; else they come from Maven Central,
    or from the repository that MAVEN_REPO_URL names.

    Raises:
        StackError: they can't be had, or are not what they should be.
    """
    folder = cache()
    missing = [jar for jar in jars() if not _is_whole(folder / jar.name, jar)]
    if missing:
        tell(f"fetching Apache Kafka {VERSION} (44 MB, once)")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as draft:
            _fetch(missing, Path(draft))
            for jar in missing:
                (Path(draft) / jar.name).replace(folder / jar.name)
    return folder


def _fetch(missing: list[Jar], draft: Path) -> None:
    if "MAVEN_REPO_URL" in os.environ or not _by_maven(missing, draft):
        _by_https(missing, draft)
    for jar in missing:
        if not _is_whole(draft / jar.name, jar):
            raise StackError(f"{jar.path} is not the file that it should be: its SHA-256 differs")


def _by_maven(missing: list[Jar], draft: Path) -> bool:
    mvn = shutil.which("mvn")
    if mvn is None:
        return False
    wanted = "".join(_DEPENDENCY.format(jar.group, jar.artifact, jar.version) for jar in missing)
    (draft / "pom.xml").write_text(_POM.format(wanted))
    command = [mvn, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={draft}"]
    done = subprocess.run(command, cwd=draft, capture_output=True, check=False, timeout=10 * _SECONDS)
    return done.returncode == 0


def _by_https(missing: list[Jar], draft: Path) -> None:
    base = os.environ.get("MAVEN_REPO_URL", _CENTRAL).rstrip("/")
    if not base.startswith("https://"):
        raise StackError("MAVEN_REPO_URL must begin with https://")

    def get(jar: Jar) -> None:
        with (
            urllib.request.urlopen(f"{base}/{jar.path}", timeout=_SECONDS) as answer,  # noqa: S310 - https, above
            (draft / jar.name).open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)

    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(get, missing))
    except OSError as error:
        raise StackError(
            f"Apache Kafka can't be fetched from {base}: {error} (MAVEN_REPO_URL names another repository)"
        ) from error


def _is_whole(file: Path, jar: Jar) -> bool:
    return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == jar.sha256
