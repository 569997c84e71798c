"""What a stack remembers between runs: its secrets and its ports, in one file that only its owner reads."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from outbox.stack.errors import StackError


@dataclass
class State:
    """Secrets are made once; ports are kept as long as they can be had."""

    password: str
    token: str
    ports: dict[str, int] = field(default_factory=dict)
    broker: str = ""
    """Which Kafka broker the stack has: tansu, apache, or none."""

    @classmethod
    def new(cls) -> "State":
        """Fresh secrets, and no port yet."""
        return cls(secrets.token_urlsafe(24), secrets.token_urlsafe(24))

    @classmethod
    def load(cls, home: Path) -> "State":
        """Read a stack's state, or make one for a stack that is new."""
        path = home / "stack.json"
        try:
            known = json.loads(path.read_text())
            return cls(
                str(known["password"]),
                str(known["token"]),
                {str(k): int(v) for k, v in known["ports"].items()},
                str(known.get("broker", "")),
            )
        except FileNotFoundError:
            if (home / "postgres").exists():
                raise StackError(
                    f"{path} is missing, and with it the password of the database beside it: "
                    f"put it back, or delete {home} and start anew"
                ) from None
            return cls.new()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StackError(f"{path} is damaged: restore it, or delete {home} and start anew") from None

    def save(self, home: Path) -> None:
        """Replace the file in one step; a crash leaves the old one or the new one."""
        path = home / "stack.json"
        draft = home / "stack.json.new"
        with open(draft, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
