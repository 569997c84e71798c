"""The spool when its disk is full: one line that says so."""

import subprocess
import sys

# A limit on the size of files stands for the disk: SQLite's temporary file has no name to put anywhere.
FILL = """
import asyncio, itertools, resource, signal
from outbox.audit.comparison import Holding
from outbox.audit.spool import Spool
from outbox.errors import StoreUnusable

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

async def endless():
    for number in itertools.count():
        yield f"agent--{number}", Holding(frozenset({"owner@user:" + "x" * 500}))

try:
    with Spool() as spool:
        asyncio.run(spool.add_holdings(endless()))
except StoreUnusable as error:
    print(error)
"""


def test_a_disk_that_is_full_is_told_with_the_way_out() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FILL], capture_output=True, text=True, check=True, timeout=240
    )
    assert ran.stdout.startswith("the audit's temporary file can't be written: ")
    assert "SQLITE_TMPDIR" in ran.stdout
