"""What commands use of the ledger, imported when first used: help and completion need no database."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outbox.store.blockers import Blocker
    from outbox.store.engine import open_engine, transaction
    from outbox.store.failures import FailureStore
    from outbox.store.halts import Halt, HaltStore
    from outbox.store.instance import instance
    from outbox.store.operate import OperateStore
    from outbox.store.reads import ReadStore
    from outbox.store.replays import ReplayStore
    from outbox.store.sessions import Holder

__all__ = [
    "Blocker",
    "FailureStore",
    "Halt",
    "HaltStore",
    "Holder",
    "OperateStore",
    "ReadStore",
    "ReplayStore",
    "instance",
    "open_engine",
    "transaction",
]

if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours
    _HOMES = {
        "Blocker": "blockers",
        "FailureStore": "failures",
        "Halt": "halts",
        "HaltStore": "halts",
        "Holder": "sessions",
        "OperateStore": "operate",
        "ReadStore": "reads",
        "ReplayStore": "replays",
        "instance": "instance",
        "open_engine": "engine",
        "transaction": "engine",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"outbox.store.{_HOMES[name]}"), name)
