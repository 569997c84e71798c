"""What each failure of Temporal means for a step: one closed table (rule 8).

Measured on Temporal 1.32 with temporalio 1.35. Not found is said of schedules and of namespaces alike; only
the detail in the status, or else the text, tells them apart.
"""

import re
from dataclasses import dataclass

from temporalio.service import RPCError, RPCStatusCode

from consumers.calls import one_line, without_doubt
from outbox.errors import ErrorCode
from outbox.flow.outcome import Failure, Misconfigured, Refused, Transient, Unknown

STORE = "temporal"


@dataclass(frozen=True, slots=True)
class Taken:
    """A schedule of that id exists, and nothing was created: look whose it is."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no schedule of that id."""

    code: ErrorCode
    message: str


Answer = Failure | Taken | Absent


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: the answer it is about, and what it means for a call that writes.

    For a call that only reads, unknown is transient: there is nothing it may have applied.

    Attributes:
        status: None stands for a connection that the client never made.
        detail: the type of a detail in the status; any, when None.
        text: matches the status's text; any, when None. With a detail: either of the two.
        see: the settings that mend it; told with the message.
    """

    status: RPCStatusCode | None
    outcome: type[Answer]
    code: ErrorCode
    meaning: str
    detail: str | None = None
    text: str | None = None
    see: str | None = None

    def covers(self, status: RPCStatusCode | None, details: frozenset[str], text: str) -> bool:
        """Whether the row is about this answer."""
        if status is not self.status:
            return False
        if self.detail is None and self.text is None:
            return True
        if self.detail is not None and self.detail in details:
            return True
        return self.text is not None and re.search(self.text, text) is not None


_S = RPCStatusCode
_CREDENTIALS = "OUTBOX_TEMPORAL_API_KEY, _TLS_CERT"
# Each of them turns TLS on.
_TLS = "OUTBOX_TEMPORAL_TLS_CA, _TLS_CERT, _API_KEY"

# The first row that covers an answer decides.
RULES: tuple[Rule, ...] = (
    Rule(
        None,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the server let the connection be made, but does not accept our credentials",
        text="(?i)code: '?(Unauthenticated|PermissionDenied)",
        see=_CREDENTIALS,
    ),
    Rule(
        None,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the server speaks no TLS",
        text="InvalidContentType|CorruptMessage",
        see=_TLS,
    ),
    Rule(
        None,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "another server answers: its certificate is for another name, or it speaks no HTTP/2",
        text="NotValidForName|H2NotNegotiated",
        see="OUTBOX_TEMPORAL_ADDRESS",
    ),
    Rule(
        None,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the server's certificate is not trusted, or has expired",
        text="InvalidCertificate",
        see="OUTBOX_TEMPORAL_TLS_CA",
    ),
    Rule(
        None,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the server refuses our certificate, or misses one",
        text="AlertReceived|received fatal alert",
        see="OUTBOX_TEMPORAL_TLS_CERT",
    ),
    Rule(
        None,
        Transient,
        ErrorCode.UNREACHABLE,
        "closed before it could be used, so never sent: a restart, TLS on the server's side alone, or a "
        "certificate that it misses",
        text="transport error|operation was canceled|h2 protocol error|tls handshake eof",
        see=_TLS,
    ),
    Rule(None, Transient, ErrorCode.UNREACHABLE, "never connected, so never sent"),
    Rule(
        _S.NOT_FOUND,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "there is no such namespace",
        detail="NamespaceNotFoundFailure",
        text="(?i)^namespace .* (is )?not found",
        see="OUTBOX_TEMPORAL_NAMESPACE",
    ),
    Rule(
        _S.NOT_FOUND,
        Absent,
        ErrorCode.RACED,
        "there is no such schedule",
        detail="NotFoundFailure",
        text="(?i)schedule not found|workflow not found|workflow execution already completed",
    ),
    Rule(
        _S.NOT_FOUND,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the endpoint isn't Temporal's API",
        see="OUTBOX_TEMPORAL_ADDRESS",
    ),
    Rule(
        _S.ALREADY_EXISTS, Taken, ErrorCode.RACED, "a schedule of that id exists, created by another request"
    ),
    Rule(
        _S.UNAUTHENTICATED,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the credentials are missing or wrong",
        see=_CREDENTIALS,
    ),
    Rule(
        _S.PERMISSION_DENIED,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the credentials may not do this",
        see=_CREDENTIALS,
    ),
    Rule(
        _S.UNIMPLEMENTED,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the endpoint isn't Temporal's API",
        see="OUTBOX_TEMPORAL_ADDRESS",
    ),
    Rule(
        _S.FAILED_PRECONDITION,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the namespace or the server's state does not allow it (not active here, deprecated)",
    ),
    Rule(_S.INVALID_ARGUMENT, Refused, ErrorCode.REFUSED, "Temporal will not take the schedule as it is"),
    Rule(_S.OUT_OF_RANGE, Refused, ErrorCode.REFUSED, "a value is out of range"),
    Rule(
        _S.RESOURCE_EXHAUSTED,
        Refused,
        ErrorCode.REFUSED,
        "the request is larger than the server takes",
        text="(?i)received message.* larger than max",
    ),
    Rule(_S.RESOURCE_EXHAUSTED, Transient, ErrorCode.OVERLOADED, "a rate limit; not applied"),
    Rule(_S.ABORTED, Transient, ErrorCode.OVERLOADED, "a concurrent change won; not applied"),
    # What a client that was connected says when it can't connect again. Exactly what it says itself: a server
    # may tell of a hop of its own in such words.
    Rule(
        _S.UNAVAILABLE,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the server speaks no TLS any more",
        text="^received corrupt message of type ",
        see=_TLS,
    ),
    Rule(
        _S.UNAVAILABLE,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "another server answers: its certificate is for another name",
        text="^invalid peer certificate: certificate not valid for name ",
        see="OUTBOX_TEMPORAL_ADDRESS",
    ),
    Rule(
        _S.UNAVAILABLE,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the server's certificate is not trusted any more, or has expired",
        text="^invalid peer certificate: ",
        see="OUTBOX_TEMPORAL_TLS_CA",
    ),
    Rule(
        _S.UNAVAILABLE,
        Misconfigured,
        ErrorCode.MISCONFIGURED,
        "the server refuses our certificate, or misses one",
        text="^received fatal alert: ",
        see="OUTBOX_TEMPORAL_TLS_CERT",
    ),
    Rule(
        _S.UNAVAILABLE,
        Transient,
        ErrorCode.UNREACHABLE,
        "never connected, so never sent",
        text="^(tcp connect error|dns error|tls handshake eof)$",
    ),
    Rule(_S.UNAVAILABLE, Unknown, ErrorCode.CONNECTION_LOST, "the connection broke after the call was sent"),
    Rule(
        _S.CANCELLED,
        Unknown,
        ErrorCode.CONNECTION_LOST,
        "the connection broke, perhaps after the call was sent",
        text="operation was canceled",
    ),
    Rule(_S.CANCELLED, Unknown, ErrorCode.TIMED_OUT, "no answer within the deadline, says the client"),
    Rule(_S.DEADLINE_EXCEEDED, Unknown, ErrorCode.TIMED_OUT, "no answer within the deadline"),
    Rule(
        _S.UNKNOWN,
        Unknown,
        ErrorCode.CONNECTION_LOST,
        "the connection broke after the call was sent",
        text="(?i)transport error|h2 protocol error|connection (reset|closed)|broken pipe",
    ),
    Rule(
        _S.INTERNAL,
        Unknown,
        ErrorCode.CONNECTION_LOST,
        "the connection broke while the answer came",
        text="(?i)h2 protocol error|error reading a body",
    ),
    Rule(_S.INTERNAL, Unknown, ErrorCode.UNEXPECTED, "the server failed in a way of its own"),
    Rule(_S.UNKNOWN, Unknown, ErrorCode.UNEXPECTED, "the server failed in a way of its own"),
    Rule(_S.DATA_LOSS, Unknown, ErrorCode.UNEXPECTED, "the server failed in a way of its own"),
)

_NO_CONNECTION = "Failed client connect"


def classify(error: Exception, *, reads: bool, api_key: str = "") -> Answer:
    """Tell what a failed call means for its step.

    Args:
        error: what the call raised.
        reads: the call changes nothing, so that its failure leaves nothing in doubt.
        api_key: our credential, to be kept out of the message.
    """
    answer = _answer(error, api_key)
    return answer if isinstance(answer, Taken | Absent) or not reads else without_doubt(answer)


def _answer(error: Exception, api_key: str) -> Answer:
    if isinstance(error, TimeoutError):
        return Unknown(ErrorCode.TIMED_OUT, f"{STORE}: no answer within the deadline")
    if isinstance(error, RPCError):
        text = error.message
        return _by_rules(error.status, _details(error), text, f"{error.status.name} {text}", api_key)
    told = f"{type(error).__name__}: {error}"
    # A connection that fails while it is made, at whichever call comes first, has no status.
    if isinstance(error, RuntimeError) and str(error).startswith(_NO_CONNECTION):
        return _by_rules(None, frozenset(), str(error), told, api_key)
    return Unknown(ErrorCode.UNEXPECTED, one_line(STORE, told, secret=api_key))


def _by_rules(
    status: RPCStatusCode | None, details: frozenset[str], text: str, told: str, api_key: str
) -> Answer:
    # The last row of each status asks for nothing else.
    rule = next(rule for rule in RULES if rule.covers(status, details, text))
    return rule.outcome(rule.code, one_line(STORE, told, secret=api_key, see=rule.see))


def _details(error: RPCError) -> frozenset[str]:
    """Name the types of the details in the status, without their package."""
    return frozenset(detail.type_url.rpartition(".")[2] for detail in error.grpc_status.details)
