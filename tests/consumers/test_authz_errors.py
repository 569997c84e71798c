"""SpiceDB's classification table: closed, and each row reached by the answer it is about."""

import re

import grpc
import pytest
from authzed.api.v1 import ErrorReason
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from consumers.authz.errors import RULES, Occupied, classify
from outbox.errors import ErrorCode
from outbox.flow.outcome import Misconfigured, Refused, Transient, Unknown

S = grpc.StatusCode
SCHEMA = "outbox authz-schema check"


def error(status: grpc.StatusCode, text: str = "", *, reason: str | None = None) -> grpc.aio.AioRpcError:
    trailers = grpc.aio.Metadata()
    if reason:
        detail = AnyMessage()
        detail.Pack(ErrorInfo(reason=reason, domain="authzed.com"))
        trailers.add("grpc-status-details-bin", Status(details=[detail]).SerializeToString())
    return grpc.aio.AioRpcError(status, grpc.aio.Metadata(), trailers, details=text)


def test_every_status_has_a_last_row_and_none_stands_behind_it() -> None:
    last = [rule.status for rule in RULES if rule.reason is None and rule.text is None]
    assert sorted(status.name for status in last) == sorted(status.name for status in S if status is not S.OK)
    for status in last:
        rows = [rule for rule in RULES if rule.status is status]
        assert rows[-1].reason is rows[-1].text is None


def test_every_reason_is_one_of_spicedbs() -> None:
    assert {rule.reason for rule in RULES if rule.reason} <= set(ErrorReason.keys())


# What each row means, and what its message tells to look at.
REASONS = [
    (S.FAILED_PRECONDITION, "WRITE_OR_DELETE_PRECONDITION_FAILURE", Occupied, ErrorCode.RACED, None),
    (S.FAILED_PRECONDITION, "UNKNOWN_DEFINITION", Misconfigured, ErrorCode.MISCONFIGURED, SCHEMA),
    (S.FAILED_PRECONDITION, "UNKNOWN_RELATION_OR_PERMISSION", Misconfigured, ErrorCode.MISCONFIGURED, SCHEMA),
    (S.FAILED_PRECONDITION, "DATASTORE_NOT_MIGRATED", Misconfigured, ErrorCode.MISCONFIGURED, None),
    (S.INVALID_ARGUMENT, "INVALID_SUBJECT_TYPE", Misconfigured, ErrorCode.MISCONFIGURED, SCHEMA),
    (S.UNAVAILABLE, "SERVICE_READ_ONLY", Transient, ErrorCode.OVERLOADED, None),
    (S.DEADLINE_EXCEEDED, "INMEMORY_TOO_MANY_CONCURRENT_UPDATES", Transient, ErrorCode.OVERLOADED, None),
]
ALONE = {
    S.CANCELLED: (Unknown, ErrorCode.TIMED_OUT, None),
    S.UNKNOWN: (Unknown, ErrorCode.UNEXPECTED, None),
    S.INVALID_ARGUMENT: (Refused, ErrorCode.REGISTRATION_REFUSED, None),
    S.DEADLINE_EXCEEDED: (Unknown, ErrorCode.TIMED_OUT, None),
    S.NOT_FOUND: (Misconfigured, ErrorCode.MISCONFIGURED, SCHEMA),
    S.ALREADY_EXISTS: (Occupied, ErrorCode.RACED, None),
    S.PERMISSION_DENIED: (Misconfigured, ErrorCode.MISCONFIGURED, "OUTBOX_SPICEDB_TOKEN"),
    S.UNAUTHENTICATED: (Misconfigured, ErrorCode.MISCONFIGURED, "OUTBOX_SPICEDB_TOKEN"),
    S.RESOURCE_EXHAUSTED: (Transient, ErrorCode.OVERLOADED, None),
    S.FAILED_PRECONDITION: (Unknown, ErrorCode.UNEXPECTED, None),
    S.ABORTED: (Transient, ErrorCode.OVERLOADED, None),
    S.OUT_OF_RANGE: (Refused, ErrorCode.REGISTRATION_REFUSED, None),
    S.UNIMPLEMENTED: (Misconfigured, ErrorCode.MISCONFIGURED, "OUTBOX_SPICEDB_ENDPOINT"),
    S.INTERNAL: (Unknown, ErrorCode.UNEXPECTED, None),
    S.UNAVAILABLE: (Unknown, ErrorCode.CONNECTION_LOST, None),
    S.DATA_LOSS: (Unknown, ErrorCode.UNEXPECTED, None),
}


def meant(error: Exception) -> tuple[type, ErrorCode, str | None]:
    """What an answer means for a call that writes, and what its message tells to look at."""
    answer = classify(error, reads=False)
    see = re.search(r" \(see (.*)\)$", answer.message)
    return type(answer), answer.code, see and see.group(1)


def test_every_reason_is_expected_here() -> None:
    assert [rule.reason for rule in RULES if rule.reason] == [f"ERROR_REASON_{row[1]}" for row in REASONS]
    assert ALONE.keys() == set(S) - {S.OK}


@pytest.mark.parametrize(("status", "reason", "outcome", "code", "see"), REASONS)
def test_the_reason_decides_whatever_the_text(
    status: grpc.StatusCode, reason: str, outcome: type, code: ErrorCode, see: str | None
) -> None:
    told = error(status, "in other words", reason=f"ERROR_REASON_{reason}")
    assert meant(told) == (outcome, code, see)


@pytest.mark.parametrize("status", ALONE)
def test_without_either_the_status_decides(status: grpc.StatusCode) -> None:
    assert meant(error(status, "in other words")) == ALONE[status]
    assert meant(error(status, "in other words", reason="ERROR_REASON_UNSPECIFIED")) == ALONE[status]
    assert meant(error(status, "")) == ALONE[status]


@pytest.mark.parametrize(
    ("text", "code", "see"),
    [
        ("WRONG_VERSION_NUMBER: Invalid certificate", ErrorCode.MISCONFIGURED, "OUTBOX_SPICEDB_TLS"),
        ("Hostname Verification Check failed", ErrorCode.MISCONFIGURED, "OUTBOX_SPICEDB_ENDPOINT"),
        ("Cannot check peer: missing selected ALPN", ErrorCode.MISCONFIGURED, "OUTBOX_SPICEDB_ENDPOINT"),
        ("SSL_ERROR_SSL: verify failed", ErrorCode.MISCONFIGURED, "OUTBOX_SPICEDB_TLS_CA"),
        ("TLS handshake failed", ErrorCode.MISCONFIGURED, "OUTBOX_SPICEDB_TLS_CA"),
        ("certificate has expired", ErrorCode.MISCONFIGURED, "OUTBOX_SPICEDB_TLS_CA"),
        ("Socket closed", ErrorCode.UNREACHABLE, "OUTBOX_SPICEDB_TLS"),
        ("recvmsg:Connection reset by peer", ErrorCode.UNREACHABLE, "OUTBOX_SPICEDB_TLS"),
        ("unwrap failed", ErrorCode.UNREACHABLE, "OUTBOX_SPICEDB_TLS"),
        ("HTTP/2 connection", ErrorCode.UNREACHABLE, "OUTBOX_SPICEDB_TLS"),
        ("Connection refused", ErrorCode.UNREACHABLE, None),
    ],
)
def test_a_connection_that_was_never_made_tells_why(text: str, code: ErrorCode, see: str | None) -> None:
    never = meant(error(S.UNAVAILABLE, f"failed to connect to all addresses; last error: {text}"))
    kind = Misconfigured if code is ErrorCode.MISCONFIGURED else Transient
    assert never == (kind, code, see)
    # Said of a hop of the server's own, the call had been sent.
    lost = (Unknown, ErrorCode.CONNECTION_LOST, None)
    assert meant(error(S.UNAVAILABLE, f"datastore: failed to connect to all addresses; {text}")) == lost


# The texts are those of the engine and of grpcio, as met on the real ones.
@pytest.mark.parametrize(
    ("status", "text", "outcome", "code"),
    [
        (
            S.FAILED_PRECONDITION,
            "unable to satisfy write precondition `operation:OPERATION_MUST_NOT_MATCH filter:{}`",
            Occupied,
            ErrorCode.RACED,
        ),
        (S.FAILED_PRECONDITION, "object definition `x` not found", Misconfigured, ErrorCode.MISCONFIGURED),
        (
            S.FAILED_PRECONDITION,
            "relation/permission `r` not found under definition `d`",
            Misconfigured,
            ErrorCode.MISCONFIGURED,
        ),
        (S.FAILED_PRECONDITION, "something new", Unknown, ErrorCode.UNEXPECTED),
        (S.ALREADY_EXISTS, "could not CREATE relationship", Occupied, ErrorCode.RACED),
        (S.PERMISSION_DENIED, "invalid preshared key: invalid token", Misconfigured, ErrorCode.MISCONFIGURED),
        (S.UNAUTHENTICATED, "missing token", Misconfigured, ErrorCode.MISCONFIGURED),
        (
            S.INVALID_ARGUMENT,
            "subjects of type `agent` are not allowed on relation `agent_schedule#owner`",
            Misconfigured,
            ErrorCode.MISCONFIGURED,
        ),
        (S.INVALID_ARGUMENT, "invalid id", Refused, ErrorCode.REGISTRATION_REFUSED),
        (S.ABORTED, "serialization error", Transient, ErrorCode.OVERLOADED),
        (
            S.UNAVAILABLE,
            "failed to connect to all addresses; last error: UNKNOWN: Connection refused",
            Transient,
            ErrorCode.UNREACHABLE,
        ),
        (S.UNAVAILABLE, "errors resolving no.such.host:1: []", Transient, ErrorCode.UNREACHABLE),
        (S.UNAVAILABLE, "DNS resolution failed for no.such.host:1", Transient, ErrorCode.UNREACHABLE),
        (S.UNAVAILABLE, "service read-only", Transient, ErrorCode.OVERLOADED),
        (S.FAILED_PRECONDITION, "the datastore is not migrated", Misconfigured, ErrorCode.MISCONFIGURED),
        (S.UNKNOWN, "Stream removed", Unknown, ErrorCode.CONNECTION_LOST),
        (S.INTERNAL, "Received RST_STREAM with error code 2", Unknown, ErrorCode.CONNECTION_LOST),
        (
            S.UNAVAILABLE,
            "failed to connect to all addresses; last error: Tls handshake failed: SSL_ERROR_SSL",
            Misconfigured,
            ErrorCode.MISCONFIGURED,
        ),
        # To a server of TLS, in the clear.
        (
            S.UNAVAILABLE,
            "failed to connect to all addresses; last error: UNAVAILABLE: recvmsg:Connection reset by peer",
            Transient,
            ErrorCode.UNREACHABLE,
        ),
        (S.UNAVAILABLE, "Stream removed (reset by peer)", Unknown, ErrorCode.CONNECTION_LOST),
        (S.UNAVAILABLE, "datastore: failed to connect to all addresses", Unknown, ErrorCode.CONNECTION_LOST),
        (S.UNAVAILABLE, "datastore: handshake failed", Unknown, ErrorCode.CONNECTION_LOST),
        (S.UNAVAILABLE, "Socket closed", Unknown, ErrorCode.CONNECTION_LOST),
        (S.DEADLINE_EXCEEDED, "Deadline Exceeded", Unknown, ErrorCode.TIMED_OUT),
        (
            S.DEADLINE_EXCEEDED,
            "serialization max retries exceeded; please reduce your parallel writes",
            Transient,
            ErrorCode.OVERLOADED,
        ),
        (S.INTERNAL, "panic", Unknown, ErrorCode.UNEXPECTED),
        # What a SpiceDB on Postgres (1.54) passes on while that is away, starts, or has ended under a call.
        (
            S.UNKNOWN,
            "failed to connect to `user=u database=d`: h:5432: dial error: dial tcp: connection refused",
            Unknown,
            ErrorCode.UNREACHABLE,
        ),
        (
            S.UNKNOWN,
            "failed to connect to `user=u database=d`: h:5432: FATAL: starting up (SQLSTATE 57P03)",
            Unknown,
            ErrorCode.UNREACHABLE,
        ),
        (
            S.UNKNOWN,
            "FATAL: terminating connection due to unexpected postmaster exit (SQLSTATE 57P01)",
            Unknown,
            ErrorCode.CONNECTION_LOST,
        ),
        (S.UNKNOWN, "unexpected EOF", Unknown, ErrorCode.CONNECTION_LOST),
        (
            S.INTERNAL,
            "unexpected consistency middleware error: unable to find revision: failed to connect to `user=u`",
            Unknown,
            ErrorCode.UNREACHABLE,
        ),
        (
            S.INTERNAL,
            "unexpected consistency middleware error: unable to find revision: FATAL (SQLSTATE 57P01)",
            Unknown,
            ErrorCode.CONNECTION_LOST,
        ),
        (S.UNKNOWN, "ERROR: relation does not exist (SQLSTATE 42P01)", Unknown, ErrorCode.UNEXPECTED),
    ],
)
def test_without_a_reason_the_text_decides(
    status: grpc.StatusCode, text: str, outcome: type, code: ErrorCode
) -> None:
    answer = classify(error(status, text), reads=False)
    assert (type(answer), answer.code) == (outcome, code)


def test_a_read_leaves_nothing_in_doubt() -> None:
    answers = [classify(error(status), reads=True) for status in S if status is not S.OK]
    assert not [answer for answer in answers if isinstance(answer, Unknown)]
    assert isinstance(classify(error(S.ALREADY_EXISTS), reads=True), Occupied)
    assert classify(TimeoutError(), reads=True) == Transient(
        ErrorCode.TIMED_OUT, "spicedb: no answer within the deadline"
    )


def test_a_reason_is_found_among_other_trailers() -> None:
    read_only = error(S.UNAVAILABLE, "in other words", reason="ERROR_REASON_SERVICE_READ_ONLY")
    trailers = grpc.aio.Metadata(
        ("x-request-id", "7"), ("trace-bin", b"\xff"), *read_only.trailing_metadata()
    )
    among = grpc.aio.AioRpcError(S.UNAVAILABLE, grpc.aio.Metadata(), trailers, details="in other words")
    assert meant(among) == meant(read_only) == (Transient, ErrorCode.OVERLOADED, None)


def test_what_is_not_an_answer_is_unknown() -> None:
    assert classify(TimeoutError(), reads=False) == Unknown(
        ErrorCode.TIMED_OUT, "spicedb: no answer within the deadline"
    )
    answer = classify(RuntimeError("what? token"), reads=False, token=" token")
    assert answer == Unknown(ErrorCode.UNEXPECTED, "spicedb: RuntimeError: what?***")
    broken = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    answer = classify(grpc.aio.AioRpcError(S.ABORTED, grpc.aio.Metadata(), broken, details="x"), reads=False)
    assert isinstance(answer, Transient)


def test_messages_are_one_short_line_without_the_token() -> None:
    text = "tried\nBearer abc.def and key-1234 " + "x" * 1000
    message = classify(error(S.INTERNAL, text), reads=False, token="key-1234").message
    assert message.startswith("spicedb: INTERNAL tried Bearer *** and *** xxx")
    assert len(message) == 500
    silent = grpc.aio.AioRpcError(S.ABORTED, grpc.aio.Metadata(), grpc.aio.Metadata())
    assert classify(silent, reads=False).message == "spicedb: ABORTED"
