"""The settings, read from the environment or a ``.env`` file; ``docs/settings.md`` is generated from here."""

from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from outbox.flow.settlement import RetryPolicy
from outbox.flow.table import Consumer

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=1)]


class Wire(StrEnum):
    """How steps reach the workers."""

    DIRECT = "direct"
    """Workers claim steps from Postgres."""
    KAFKA = "kafka"
    """A relay publishes steps; workers take them as a consumer group."""


class Settings(BaseSettings):
    """Each field is the environment variable ``OUTBOX_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix="OUTBOX_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    database_url: SecretStr = Field(
        SecretStr("postgresql://localhost/postgres"),
        description="The Postgres that holds the outbox, as postgresql://user:password@host:port/database; "
        "libpq's parameters may follow, as in ?sslmode=verify-full&sslrootcert=/path/ca.pem.",
    )
    instance: UUID | None = Field(
        None,
        description="Which outbox this is (a UUID): what it writes to Temporal names it. None: the id that "
        "its database drew when it was made. `outbox migrate` brings a database to it that was made anew.",
    )
    operator: str | None = Field(
        None,
        max_length=200,
        description="Who acts, as it is written down with what operators do. None: the user of the "
        "operating system.",
    )
    database_direct_url: SecretStr | None = Field(
        None,
        description="Where `OUTBOX_DATABASE_URL` leads through a pooler of transactions: the same database "
        "past it, for wake-ups (LISTEN) and migrations.",
    )
    spicedb_endpoint: str = Field("localhost:50051", description="SpiceDB's gRPC address, host:port.")
    spicedb_token: SecretStr | None = Field(None, description="SpiceDB's preshared key.")
    spicedb_tls: bool = Field(default=True, description="Whether SpiceDB is spoken to over TLS.")
    spicedb_tls_ca: Path | None = Field(
        None,
        description="A file of CA certificates to trust for SpiceDB instead of those that come with gRPC.",
    )
    temporal_address: str = Field("localhost:7233", description="The Temporal frontend, host:port.")
    temporal_namespace: str = Field("default", description="The Temporal namespace that holds the schedules.")
    temporal_api_key: SecretStr | None = Field(
        None, description="An API key for Temporal Cloud; turns TLS on."
    )
    temporal_tls_cert: Path | None = Field(
        None, description="The client's certificate file, for mTLS; turns TLS on."
    )
    temporal_tls_key: Path | None = Field(
        None, description="The client's private key file, for mTLS; without a passphrase."
    )
    temporal_tls_ca: Path | None = Field(
        None,
        description="A file of CA certificates to trust for Temporal instead of the system's; turns TLS on.",
    )
    temporal_data_converter: str | None = Field(
        None,
        description="module:attribute of a temporalio DataConverter, for platforms that encrypt payloads.",
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
    )
    wire: Wire = Field(
        Wire.DIRECT,
        description="How steps reach the workers: direct (they claim them) or kafka (a relay sends them).",
    )
    kafka_bootstrap: str | None = Field(
        None,
        description="Kafka brokers to begin with, host:port[,host:port]. Set with the direct wire: events "
        "are published, and nothing else changes.",
    )
    kafka_prefix: str = Field(
        "agent-schedules",
        description="What the topics' names begin with; one for each outbox that shares a cluster.",
        pattern=r"^[A-Za-z0-9._-]{1,150}$",
    )
    kafka_tls: bool = Field(default=False, description="Whether Kafka is spoken to over TLS.")
    kafka_tls_ca: Path | None = Field(
        None, description="A file of CA certificates to trust for Kafka instead of the system's."
    )
    kafka_tls_cert: Path | None = Field(
        None, description="The client's certificate file, for mTLS with Kafka."
    )
    kafka_tls_key: Path | None = Field(
        None, description="The client's private key file, for mTLS with Kafka."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="How the client proves who it is to Kafka: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
    )
    kafka_sasl_username: str | None = Field(None, description="The user name for SASL.")
    kafka_sasl_password: SecretStr | None = Field(None, description="The password for SASL.")
    kafka_session_seconds: Seconds = Field(
        10.0, description="How soon the partitions of a worker that died go to the others; at least 6."
    )
    kafka_partitions: Count = Field(
        12,
        description="How many partitions `outbox migrate` gives each topic: the most workers that share the "
        "steps of one store.",
    )
    kafka_replication: Count | None = Field(
        None, description="How many brokers hold each topic; none: what the cluster does by default."
    )
    kafka_dispatch_retention_hours: Count = Field(
        24, description="How long dispatches stay in their topics; Postgres dispatches what is lost again."
    )
    kafka_events_retention_hours: Count = Field(
        168, description="How long published events stay in their topic."
    )
    dispatch_seconds: Seconds = Field(
        30.0,
        description="Kafka wire: how long a published step may wait for a worker until it is published "
        "again.",
    )
    dispatch_max: Count = Field(
        1000,
        description="Kafka wire: how many steps of a store may be published and not yet taken by a worker.",
    )

    lease_seconds: Seconds = Field(
        30.0, description="How long a worker may keep a step before another takes it over."
    )
    step_timeout_seconds: Seconds = Field(
        10.0,
        description="How long one attempt at a step may take, from its claim; no call outlasts it. "
        "At most the lease.",
    )
    late_write_seconds: Seconds = Field(
        30.0,
        description="How long after its deadline a call without an answer may still take effect. What would "
        "undo or contradict it waits that long.",
    )
    retry_base_seconds: Seconds = Field(
        0.5, description="The wait after a step's first failure; it doubles with each further one."
    )
    retry_cap_seconds: Seconds = Field(60.0, description="The longest wait between two attempts at a step.")
    retry_max_strikes: Count = Field(
        12, description="After how many failures, while its store answers, a step parks."
    )
    registration_deadline_seconds: Seconds = Field(
        600.0,
        description="How long a registration may stay impossible, counted while SpiceDB answers, before its "
        "create fails.",
    )
    verify_again_seconds: Seconds = Field(
        600.0,
        description="A schedule with a call that got no answer is verified when that call can't take effect "
        "any more (OUTBOX_LATE_WRITE_SECONDS), and once more so much later.",
    )
    poll_interval_seconds: Seconds = Field(
        0.5, description="How often an idle worker looks for steps when no wake-up tells it to."
    )
    authz_concurrency: Count = Field(16, description="How many SpiceDB effects a worker runs at once.")
    temporal_concurrency: Count = Field(8, description="How many Temporal effects a worker runs at once.")
    repair_concurrency: int = Field(
        2,
        ge=0,
        description="How many repairs a worker runs at once; 0 leaves them to other workers (of a relay: to "
        "other relays).",
    )
    authz_rate_per_second: Rate | None = Field(
        None, description="How many SpiceDB steps all workers together take in a second; none: no limit."
    )
    temporal_rate_per_second: Rate | None = Field(
        None,
        description="How many Temporal steps all workers together take in a second; none: no limit. Temporal "
        "Cloud allows about 10 schedule operations a second.",
    )
    audit_rate_per_second: float = Field(
        1.0,
        ge=0,
        description="How many schedules all workers together look at in a second, round after round, to see "
        "that the stores agree; 0: none. Each costs one describe of Temporal and one read of SpiceDB. "
        "Workers of one store, or with --until-idle, don't audit.",
    )
    audit_repairs: bool = Field(
        default=False,
        description="Whether these audits ask for the repair of what one can mend; else they only tell, in "
        "the log and in `outbox status`.",
    )
    settle_batch_max: Count = Field(
        250, description="How many outcomes are settled in one transaction at most."
    )
    drain_seconds: Seconds = Field(
        15.0, description="How long a worker that was told to stop lets its steps finish."
    )
    max_request_bytes: Count = Field(
        262_144, description="The largest request that may be enqueued, in bytes of JSON."
    )

    log_format: Literal["auto", "json", "text"] = Field(
        "auto",
        description="How `outbox run`, `relay` and `console` log to stderr: json (a line an event), text, or "
        "auto: text on a terminal and JSON elsewhere.",
    )
    http_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Where `outbox run` and `outbox relay` serve /healthz, /readyz and /metrics; none: "
        "nowhere; 0: a free port, which the log names. Needs the extra `telemetry`.",
    )
    http_host: str = Field(
        "127.0.0.1", description="The address that `OUTBOX_HTTP_PORT` is listened on at; 0.0.0.0: at all."
    )
    console_host: str = Field(
        "127.0.0.1",
        description="The address that `outbox console` listens on. Any but this machine's own asks for a "
        "token or an identity header.",
    )
    console_port: int = Field(8484, ge=0, le=65535, description="Its port; 0: any that is free.")
    console_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Whoever shows this token to the console may act; at least 16 characters.",
    )
    console_viewer_token: SecretStr | None = Field(
        None, min_length=16, description="Whoever shows this token to the console may read, and no more."
    )
    console_identity_header: str | None = Field(
        None,
        description="The header in which a proxy that has authenticated a visitor names them, as "
        "X-Forwarded-User.",
        pattern=r"^[A-Za-z0-9-]+$",
    )
    console_proxies: str = Field(
        "127.0.0.1,::1",
        description="Whom that header is believed from: addresses or networks, separated by commas.",
    )
    console_operators: str = Field(
        "",
        description="Which of those whom the header names may act, separated by commas; *: all of them. "
        "The others may read.",
    )
    console_payloads: bool = Field(
        default=True,
        description="Whether operators, and assistants by `outbox mcp`, are shown what requests hold. "
        "Viewers never are.",
    )
    console_tls_cert: Path | None = Field(
        None, description="The console's certificate file, where no proxy before it speaks TLS."
    )
    console_tls_key: Path | None = Field(None, description="The private key file that goes with it.")

    failpoints: str | None = Field(
        None,
        description="For tests: makes a worker die, freeze or fail at named points, as settle.before=exit@3; "
        "docs/testing.md lists them.",
    )

    @model_validator(mode="after")
    def _lease_outlasts_the_attempt(self) -> Self:
        if self.step_timeout_seconds > self.lease_seconds:
            raise ValueError(
                "OUTBOX_STEP_TIMEOUT_SECONDS must not exceed OUTBOX_LEASE_SECONDS: "
                "a step would be taken over while its first worker is still at it"
            )
        return self

    @model_validator(mode="after")
    def _certificates_are_used(self) -> Self:
        if self.spicedb_tls_ca and not self.spicedb_tls:
            raise ValueError(
                "OUTBOX_SPICEDB_TLS_CA is set, but OUTBOX_SPICEDB_TLS is off: "
                "the token would travel in the clear"
            )
        if (self.temporal_tls_cert is None) != (self.temporal_tls_key is None):
            raise ValueError("OUTBOX_TEMPORAL_TLS_CERT and _KEY are set together or not at all")
        return self

    @model_validator(mode="after")
    def _the_console_is_guarded(self) -> Self:
        if (self.console_tls_cert is None) != (self.console_tls_key is None):
            raise ValueError("OUTBOX_CONSOLE_TLS_CERT and _KEY are set together or not at all")
        for part in filter(None, map(str.strip, self.console_proxies.split(","))):
            ip_network(part)
        return self

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Self:
        sasl = (self.kafka_sasl_mechanism, self.kafka_sasl_username, self.kafka_sasl_password)
        if any(sasl) and not all(sasl):
            raise ValueError(
                "OUTBOX_KAFKA_SASL_MECHANISM, _USERNAME and _PASSWORD are set together or not at all"
            )
        return self

    @property
    def session_url(self) -> str:
        """The database, by a connection that keeps its session."""
        return (self.database_direct_url or self.database_url).get_secret_value()

    @property
    def retry_policy(self) -> RetryPolicy:
        """The retry settings as the policy that settles steps."""
        return RetryPolicy(
            self.retry_base_seconds,
            self.retry_cap_seconds,
            self.retry_max_strikes,
            self.registration_deadline_seconds,
        )

    @property
    def late_bound_seconds(self) -> float:
        """How long after an intent's end its stamp and mark may still be needed."""
        return self.step_timeout_seconds + self.late_write_seconds + self.verify_again_seconds

    @property
    def room(self) -> dict[Consumer, int]:
        """How many effects of each consumer a worker runs at once; none of those it leaves to others."""
        room = {
            Consumer.AUTHZ: self.authz_concurrency,
            Consumer.TEMPORAL: self.temporal_concurrency,
            Consumer.BOTH: self.repair_concurrency,
        }
        return {name: most for name, most in room.items() if most}

    @property
    def rates(self) -> dict[Consumer, float]:
        """The steps per second of each store that has a limit."""
        rates = {Consumer.AUTHZ: self.authz_rate_per_second, Consumer.TEMPORAL: self.temporal_rate_per_second}
        return {name: rate for name, rate in rates.items() if rate is not None}


def listed(settings: Settings) -> list[dict[str, Any]]:
    """Each setting with its value, default and meaning; secrets are masked."""
    return [
        {
            "name": f"OUTBOX_{name.upper()}",
            "value": _shown(getattr(settings, name)),
            "default": _shown(field.default),
            "set": name in settings.model_fields_set,
            "meaning": field.description,
        }
        for name, field in type(settings).model_fields.items()
    ]


def _shown(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return "********"
    return value if isinstance(value, bool | int | float) else str(value)
