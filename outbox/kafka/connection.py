"""How a cluster is reached: the settings, as the options of kafka-python's clients."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outbox.settings import Settings

_REQUEST_MS = 5_000
_BOOTSTRAP_MS = 5_000
_CONNECT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, and the prefix of our topics there.

    Attributes:
        session_ms: how long a member of a group may be silent.
        options: what every client needs, by kafka-python's names; holds a password.
    """

    prefix: str
    session_ms: int
    options: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "Cluster":
        """The cluster that the settings name.

        Raises:
            ValueError: they name none.
        """
        if not settings.kafka_bootstrap:
            raise ValueError("OUTBOX_KAFKA_BOOTSTRAP is not set: the brokers, as host:port,host:port")
        options: dict[str, Any] = {
            "bootstrap_servers": [one.strip() for one in settings.kafka_bootstrap.split(",")],
            "client_id": "outbox",
            "security_protocol": _protocol(settings),
            "request_timeout_ms": _REQUEST_MS,
            "bootstrap_timeout_ms": _BOOTSTRAP_MS,
            "reconnect_backoff_max_ms": 1_000,
        }
        files = {
            "ssl_cafile": settings.kafka_tls_ca,
            "ssl_certfile": settings.kafka_tls_cert,
            "ssl_keyfile": settings.kafka_tls_key,
        }
        options |= {name: str(path) for name, path in files.items() if path}
        if settings.kafka_sasl_mechanism and settings.kafka_sasl_password:
            options |= {
                "sasl_mechanism": settings.kafka_sasl_mechanism,
                "sasl_plain_username": settings.kafka_sasl_username,
                "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
            }
        return cls(settings.kafka_prefix, round(settings.kafka_session_seconds * 1000), options)


def problem(options: Mapping[str, Any]) -> str | None:
    """Try to connect to a broker; None, or why none can be connected to.

    To be asked before a client is made: kafka-python's leave sockets behind where nobody listens.
    """
    reason = "no broker is named"
    for server in options["bootstrap_servers"]:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
        except (OSError, ValueError) as error:
            reason = f"{server}: {error}"
        else:
            return None
    return reason


def _protocol(settings: Settings) -> str:
    name = "SSL" if settings.kafka_tls else "PLAINTEXT"
    return f"SASL_{name}" if settings.kafka_sasl_mechanism else name
