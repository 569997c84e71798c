"""SpiceDB's classification table: closed, and each row reached by the answer it is about."""

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


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.reason], ids=lambda rule: str(rule.reason))
def test_the_reason_decides_whatever_the_text(rule: object) -> None:
    assert rule in RULES
    [row] = [one for one in RULES if one is rule]
    answer = classify(error(row.status, "in other words", reason=row.reason), reads=False)
    assert (type(answer), answer.code) == (row.outcome, row.code)


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
    assert classify(TimeoutError(), reads=True) == Transient(
        ErrorCode.TIMED_OUT, "spicedb: no answer within the deadline"
    )


def test_what_is_not_an_answer_is_unknown() -> None:
    assert isinstance(classify(TimeoutError(), reads=False), Unknown)
    answer = classify(RuntimeError("what?"), reads=False)
    assert answer == Unknown(ErrorCode.UNEXPECTED, "spicedb: RuntimeError: what?")
    broken = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    answer = classify(grpc.aio.AioRpcError(S.ABORTED, grpc.aio.Metadata(), broken, details="x"), reads=False)
    assert isinstance(answer, Transient)


def test_messages_are_one_short_line_without_the_token() -> None:
    text = "tried\nBearer abc.def and key-1234 " + "x" * 1000
    message = classify(error(S.INTERNAL, text), reads=False, token="key-1234").message
    assert message.startswith("spicedb: INTERNAL tried Bearer *** and *** xxx")
    assert len(message) == 500
