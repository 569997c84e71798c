"""Which broker the tests run on: Apache Kafka, or tansu where that can't be had."""

import os
from functools import cache

from outbox.stack import StackError, kafka_jars
from outbox.stack.kafka import Broker, java


@cache
def broker() -> tuple[Broker, str]:
    """The broker, and why it is that one."""
    if os.environ.get("OUTBOX_TEST_BROKER") == "tansu":
        return "tansu", "OUTBOX_TEST_BROKER says so"
    try:
        java()
        kafka_jars.ensure()
    except StackError as error:
        return "tansu", str(error)
    return "apache", f"version {kafka_jars.VERSION}"
