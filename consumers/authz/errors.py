"""What each failure of SpiceDB means for a step: one closed table (rule 8).

Measured on SpiceDB 1.54. A status comes with a machine-readable reason from the server itself; where the
engine runs embedded, or a proxy drops the trailers, only the text tells the twins apart.
"""

import re
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from consumers.calls import one_line, without_doubt
from outbox.errors import ErrorCode
from outbox.flow.outcome import Failure, Misconfigured, Refused, Transient, Unknown

STORE = "spicedb"
_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Occupied:
    """A precondition of the write does not hold, so nothing was written: look who is there."""

    code: ErrorCode
    message: str


Answer = Failure | Occupied


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: the answer it is about, and what it means for a call that writes.

    For a call that only reads, unknown is transient: there is nothing it may have applied.

    Attributes:
        reason: the reason in the status's ErrorInfo; any, when None.
        text: matches the status's text; any, when None. With a reason: either of the two.
        see: the settings or the command that mend it; told with the message.
    """

    status: grpc.StatusCode
    outcome: type[Answer]
    code: ErrorCode
    meaning: str
    reason: str | None = None
    text: str | None = None
    see: str | None = None

    def covers(self, status: grpc.StatusCode, reason: str | None, text: str) -> bool:
        """Whether the row is about this answer."""
        if status is not self.status:
            return False
        if self.reason is None and self.text is None:
            return True
        if self.reason is not None and reason == self.reason:
            return True
        return self.text is not None and re.search(self.text, text) is not None


_S = grpc.StatusCode

# The first row that covers an answer decides.
RULES: tuple[Rule, ...] = (
    Rule(
        _S.FAILED_PRECONDITION,
        Occupied,
        ErrorCode.RACED,
        "a precondition of the write does not hold",
        reason="ERROR_REASON_WRITE_OR_DELETE_PRECONDITION_FAILURE",
        text="unable to satisfy write precondition",
    ),
    Rule(
        _S.FAILED_PRECONDITION,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the schema lacks a definition",
        reason="ERROR_REASON_UNKNOWN_DEFINITION",
        text="object definition .* not found",
        see="outbox authz-schema check",
    ),
    Rule(
        _S.FAILED_PRECONDITION,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the schema lacks a relation or permission",
        reason="ERROR_REASON_UNKNOWN_RELATION_OR_PERMISSION",
        text="relation/permission .* not found",
        see="outbox authz-schema check",
    ),
    Rule(
        _S.FAILED_PRECONDITION,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the server's datastore is not migrated",
        reason="ERROR_REASON_DATASTORE_NOT_MIGRATED",
        text="not migrated",
    ),
    Rule(
        _S.FAILED_PRECONDITION,
        Unknown,
        ErrorCode.UNEXPECTED,
        "a precondition that none of the rows above knows",
    ),
    Rule(
        _S.ALREADY_EXISTS,
        Occupied,
        ErrorCode.RACED,
        "one of the relationships exists, and the whole write was rolled back",
    ),
    Rule(
        _S.UNAUTHENTICATED,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the token is missing or wrong",
        see="OUTBOX_SPICEDB_TOKEN",
    ),
    Rule(
        _S.PERMISSION_DENIED,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the token may not do this",
        see="OUTBOX_SPICEDB_TOKEN",
    ),
    Rule(
        _S.UNIMPLEMENTED,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the endpoint isn't SpiceDB's v1 API",
        see="OUTBOX_SPICEDB_ENDPOINT",
    ),
    Rule(
        _S.INVALID_ARGUMENT,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the schema's relation does not take our subjects",
        reason="ERROR_REASON_INVALID_SUBJECT_TYPE",
        text="subjects of type .* are not allowed on relation",
        see="outbox authz-schema check",
    ),
    Rule(
        _S.INVALID_ARGUMENT,
        Refused,
        ErrorCode.REGISTRATION_REFUSED,
        "SpiceDB will not take the relationships as they are",
    ),
    Rule(_S.OUT_OF_RANGE, Refused, ErrorCode.REGISTRATION_REFUSED, "a value is out of range"),
    Rule(
        _S.NOT_FOUND,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "there is no schema",
        see="outbox authz-schema check",
    ),
    Rule(_S.ABORTED, Transient, ErrorCode.OVERLOADED, "a concurrent write won; rolled back"),
    Rule(_S.RESOURCE_EXHAUSTED, Transient, ErrorCode.OVERLOADED, "the server sheds load; not applied"),
    Rule(
        _S.UNAVAILABLE,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the server speaks no TLS",
        text="(?i)^failed to connect to all addresses.*wrong_version_number",
        see="OUTBOX_SPICEDB_TLS",
    ),
    Rule(
        _S.UNAVAILABLE,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "another server answers: its certificate is for another name, or it speaks no HTTP/2",
        text="(?i)^failed to connect to all addresses.*(hostname verification|alpn)",
        see="OUTBOX_SPICEDB_ENDPOINT",
    ),
    Rule(
        _S.UNAVAILABLE,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the TLS handshake failed: the server's certificate is not trusted, or has expired",
        text="(?i)^failed to connect to all addresses.*(ssl_error|handshake|certificate)",
        see="OUTBOX_SPICEDB_TLS_CA",
    ),
    Rule(
        _S.UNAVAILABLE,
        Transient,
        ErrorCode.UNREACHABLE,
        "closed before it could be used, so never sent: a restart, or TLS on the server's side alone",
        text="(?i)^failed to connect to all addresses.*(socket closed|reset by peer|unwrap failed|http/2)",
        see="OUTBOX_SPICEDB_TLS",
    ),
    Rule(
        _S.UNAVAILABLE,
        Transient,
        ErrorCode.UNREACHABLE,
        "never connected, so never sent",
        text="(?i)^(failed to connect to all addresses|dns resolution failed|errors resolving)",
    ),
    Rule(
        _S.UNAVAILABLE,
        Transient,
        ErrorCode.OVERLOADED,
        "the server takes no writes for now; not applied",
        reason="ERROR_REASON_SERVICE_READ_ONLY",
        text="service read-only",
    ),
    Rule(_S.UNAVAILABLE, Unknown, ErrorCode.CONNECTION_LOST, "the connection broke after the call was sent"),
    Rule(
        _S.DEADLINE_EXCEEDED,
        Transient,
        ErrorCode.OVERLOADED,
        "the in-memory datastore gave up among concurrent writes; rolled back",
        reason="ERROR_REASON_INMEMORY_TOO_MANY_CONCURRENT_UPDATES",
        text="serialization max retries exceeded",
    ),
    Rule(_S.DEADLINE_EXCEEDED, Unknown, ErrorCode.TIMED_OUT, "no answer within the deadline"),
    Rule(_S.CANCELLED, Unknown, ErrorCode.TIMED_OUT, "ended before the answer came"),
    Rule(
        _S.UNKNOWN,
        Unknown,
        ErrorCode.CONNECTION_LOST,
        "the connection broke after the call was sent",
        text="(?i)stream removed",
    ),
    # SpiceDB passes on what its database's driver says, with no status of its own, or INTERNAL where it asks
    # for the latest revision. It may have tried before: what the last try came to doesn't tell of those.
    *(
        rule
        for status in (_S.UNKNOWN, _S.INTERNAL)
        for rule in (
            Rule(
                status,
                Unknown,
                ErrorCode.UNREACHABLE,
                "SpiceDB can't reach its database",
                text="(?i)failed to connect to .user=|dial tcp",
            ),
            Rule(
                status,
                Unknown,
                ErrorCode.CONNECTION_LOST,
                "SpiceDB's connection to its database broke",
                text="(?i)SQLSTATE (57P0|08)|unexpected eof|conn closed|connection reset|broken pipe"
                "|bad connection",
            ),
        )
    ),
    Rule(
        _S.INTERNAL,
        Unknown,
        ErrorCode.CONNECTION_LOST,
        "the connection broke while the answer came",
        text="(?i)rst_stream",
    ),
    Rule(_S.INTERNAL, Unknown, ErrorCode.UNEXPECTED, "the server failed in a way of its own"),
    Rule(_S.UNKNOWN, Unknown, ErrorCode.UNEXPECTED, "the server failed in a way of its own"),
    Rule(_S.DATA_LOSS, Unknown, ErrorCode.UNEXPECTED, "the server failed in a way of its own"),
)


def classify(error: Exception, *, reads: bool, token: str = "") -> Answer:
    """Tell what a failed call means for its step.

    Args:
        error: what the call raised.
        reads: the call changes nothing, so that its failure leaves nothing in doubt.
        token: our credential, to be kept out of the message.
    """
    answer = _answer(error, token)
    return answer if isinstance(answer, Occupied) or not reads else without_doubt(answer)


def _answer(error: Exception, token: str) -> Answer:
    if isinstance(error, TimeoutError):
        return Unknown(ErrorCode.TIMED_OUT, f"{STORE}: no answer within the deadline")
    if not isinstance(error, grpc.aio.AioRpcError):
        text = f"{type(error).__name__}: {error}"
        return Unknown(ErrorCode.UNEXPECTED, one_line(STORE, text, secret=token))
    text = error.details() or ""
    reason = _reason(error)
    told = f"{error.code().name} {text}"
    # The last row of each status asks for nothing else.
    rule = next(rule for rule in RULES if rule.covers(error.code(), reason, text))
    return rule.outcome(rule.code, one_line(STORE, told, secret=token, see=rule.see))


def _reason(error: grpc.aio.AioRpcError) -> str | None:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            return _error_info(value)
    return None


def _error_info(raw: bytes) -> str | None:
    status = status_pb2.Status()
    try:
        status.ParseFromString(raw)
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return str(info.reason)
    except DecodeError:
        return None  # broken details say nothing, and the text decides
    return None
