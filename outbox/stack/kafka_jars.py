"""Apache Kafka as jars from Maven Central, kept in the user's cache."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from outbox.stack import maven

VERSION = "4.3.1"
_LIST = Path(__file__).with_name("kafka_jars.txt")


def cache() -> Path:
    """The folder of the jars."""
    return maven.cache() / f"kafka-{VERSION}"


def ensure(tell: Callable[[str], None] = lambda _: None) -> Path:
    """Bring the jars that are missing into the cache; returns its folder.

    Raises:
        StackError: they can't be had, or are not what they should be.
    """
    folder = cache()
    missing = [jar for jar in maven.listed(_LIST) if not jar.is_whole(folder / jar.name)]
    if missing:
        tell(f"fetching Apache Kafka {VERSION} (44 MB, once)")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as draft:
            maven.fetch(missing, Path(draft), f"Apache Kafka {VERSION}")
            for jar in missing:
                (Path(draft) / jar.name).replace(folder / jar.name)
    return folder
