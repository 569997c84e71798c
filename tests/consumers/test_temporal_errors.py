"""Temporal's classification table: closed, and each row reached by the answer it is about."""

import re

import pytest
from google.protobuf.message import Message
from temporalio.api.common.v1 import GrpcStatus
from temporalio.api.errordetails.v1 import (
    NamespaceNotFoundFailure,
    NotFoundFailure,
    WorkflowExecutionAlreadyStartedFailure,
)
from temporalio.service import RPCError, RPCStatusCode

from consumers.temporal.errors import RULES, Absent, Taken, classify
from outbox.errors import ErrorCode
from outbox.flow.outcome import Misconfigured, Refused, Transient, Unknown

S = RPCStatusCode
CREDENTIALS, TLS = "OUTBOX_TEMPORAL_API_KEY, _TLS_CERT", "OUTBOX_TEMPORAL_TLS_CA, _TLS_CERT, _API_KEY"
NO_ANSWER = (Unknown, ErrorCode.UNEXPECTED)
NO_CONNECTION = "Failed client connect: Server connection error: "


def error(status: RPCStatusCode, text: str = "", detail: Message | None = None) -> RPCError:
    packed = GrpcStatus()
    if detail is not None:
        packed.details.add().Pack(detail)
    return RPCError(text, status, packed.SerializeToString())


def test_every_status_has_a_last_row_and_none_stands_behind_it() -> None:
    last = [rule.status for rule in RULES if rule.detail is None and rule.text is None]
    assert sorted(map(str, last)) == sorted(map(str, [None, *(status for status in S if status is not S.OK)]))
    for status in last:
        rows = [rule for rule in RULES if rule.status is status]
        assert rows[-1].detail is rows[-1].text is None


ALONE = {
    S.CANCELLED: (Unknown, ErrorCode.TIMED_OUT, None),
    S.UNKNOWN: (Unknown, ErrorCode.UNEXPECTED, None),
    S.INVALID_ARGUMENT: (Refused, ErrorCode.REFUSED, None),
    S.DEADLINE_EXCEEDED: (Unknown, ErrorCode.TIMED_OUT, None),
    S.NOT_FOUND: (Misconfigured, ErrorCode.MISCONFIGURED, "OUTBOX_TEMPORAL_ADDRESS"),
    S.ALREADY_EXISTS: (Taken, ErrorCode.RACED, None),
    S.PERMISSION_DENIED: (Misconfigured, ErrorCode.MISCONFIGURED, CREDENTIALS),
    S.UNAUTHENTICATED: (Misconfigured, ErrorCode.MISCONFIGURED, CREDENTIALS),
    S.RESOURCE_EXHAUSTED: (Transient, ErrorCode.OVERLOADED, None),
    S.FAILED_PRECONDITION: (Misconfigured, ErrorCode.MISCONFIGURED, None),
    S.ABORTED: (Transient, ErrorCode.OVERLOADED, None),
    S.OUT_OF_RANGE: (Refused, ErrorCode.REFUSED, None),
    S.UNIMPLEMENTED: (Misconfigured, ErrorCode.MISCONFIGURED, "OUTBOX_TEMPORAL_ADDRESS"),
    S.INTERNAL: (Unknown, ErrorCode.UNEXPECTED, None),
    S.UNAVAILABLE: (Unknown, ErrorCode.CONNECTION_LOST, None),
    S.DATA_LOSS: (Unknown, ErrorCode.UNEXPECTED, None),
}


def meant(error: Exception) -> tuple[type, ErrorCode, str | None]:
    """What an answer means for a call that writes, and what its message tells to look at."""
    answer = classify(error, reads=False)
    see = re.search(r" \(see (.*)\)$", answer.message)
    return type(answer), answer.code, see and see.group(1)


@pytest.mark.parametrize(
    ("status", "detail", "outcome", "code", "see"),
    [
        (
            S.NOT_FOUND,
            NamespaceNotFoundFailure(namespace="x"),
            Misconfigured,
            ErrorCode.MISCONFIGURED,
            "OUTBOX_TEMPORAL_NAMESPACE",
        ),
        (S.NOT_FOUND, NotFoundFailure(), Absent, ErrorCode.RACED, None),
        (S.NOT_FOUND, None, Misconfigured, ErrorCode.MISCONFIGURED, "OUTBOX_TEMPORAL_ADDRESS"),
        (S.ALREADY_EXISTS, WorkflowExecutionAlreadyStartedFailure(), Taken, ErrorCode.RACED, None),
    ],
)
def test_the_detail_decides_whatever_the_text(
    status: RPCStatusCode, detail: Message | None, outcome: type, code: ErrorCode, see: str | None
) -> None:
    assert meant(error(status, "in other words", detail)) == (outcome, code, see)


def test_every_status_is_expected_here() -> None:
    assert ALONE.keys() == set(S) - {S.OK}


@pytest.mark.parametrize("status", ALONE)
def test_without_either_the_status_decides(status: RPCStatusCode) -> None:
    assert meant(error(status, "in other words")) == ALONE[status]


# The texts are those of the server and of the client's core, as met on the real ones.
@pytest.mark.parametrize(
    ("status", "text", "outcome", "code"),
    [
        (S.NOT_FOUND, "Namespace nope is not found.", Misconfigured, ErrorCode.MISCONFIGURED),
        (S.NOT_FOUND, "schedule not found", Absent, ErrorCode.RACED),
        (S.NOT_FOUND, "workflow not found for ID: temporal-sys-scheduler:b", Absent, ErrorCode.RACED),
        (S.NOT_FOUND, "workflow execution already completed", Absent, ErrorCode.RACED),
        (S.ALREADY_EXISTS, 'schedule "a" is already registered', Taken, ErrorCode.RACED),
        (S.UNAUTHENTICATED, "", Misconfigured, ErrorCode.MISCONFIGURED),
        (S.PERMISSION_DENIED, "Request unauthorized.", Misconfigured, ErrorCode.MISCONFIGURED),
        (S.INVALID_ARGUMENT, "Invalid schedule spec", Refused, ErrorCode.REFUSED),
        (
            S.RESOURCE_EXHAUSTED,
            "grpc: received message after decompression larger than max 4194304",
            Refused,
            ErrorCode.REFUSED,
        ),
        (S.RESOURCE_EXHAUSTED, "namespace rate limit exceeded", Transient, ErrorCode.OVERLOADED),
        (S.UNAVAILABLE, "tcp connect error", Transient, ErrorCode.UNREACHABLE),
        (S.UNAVAILABLE, "tls handshake eof", Transient, ErrorCode.UNREACHABLE),
        (
            S.UNAVAILABLE,
            "received corrupt message of type InvalidContentType",
            Misconfigured,
            ErrorCode.MISCONFIGURED,
        ),
        (
            S.UNAVAILABLE,
            "received fatal alert: CertificateExpired",
            Misconfigured,
            ErrorCode.MISCONFIGURED,
        ),
        (S.UNAVAILABLE, "invalid peer certificate: UnknownIssuer", Misconfigured, ErrorCode.MISCONFIGURED),
        (S.UNAVAILABLE, "history: tcp connect error", Unknown, ErrorCode.CONNECTION_LOST),
        (S.UNAVAILABLE, "history: invalid peer certificate: x", Unknown, ErrorCode.CONNECTION_LOST),
        (S.CANCELLED, "operation was canceled", Unknown, ErrorCode.CONNECTION_LOST),
        (S.UNAVAILABLE, "shard status unknown", Unknown, ErrorCode.CONNECTION_LOST),
        (S.UNKNOWN, "transport error", Unknown, ErrorCode.CONNECTION_LOST),
        (S.UNKNOWN, "what?", Unknown, ErrorCode.UNEXPECTED),
        (S.UNKNOWN, "H2 protocol error", Unknown, ErrorCode.CONNECTION_LOST),
        (S.UNKNOWN, "Connection reset by peer", Unknown, ErrorCode.CONNECTION_LOST),
        (S.UNKNOWN, "connection closed", Unknown, ErrorCode.CONNECTION_LOST),
        (S.UNKNOWN, "Broken pipe", Unknown, ErrorCode.CONNECTION_LOST),
        (S.INTERNAL, "h2 protocol error: x", Unknown, ErrorCode.CONNECTION_LOST),
        (S.INTERNAL, "Error reading a body", Unknown, ErrorCode.CONNECTION_LOST),
        (S.UNAVAILABLE, "dns error", Transient, ErrorCode.UNREACHABLE),
        (S.CANCELLED, "Timeout expired", Unknown, ErrorCode.TIMED_OUT),
        (S.DEADLINE_EXCEEDED, "", Unknown, ErrorCode.TIMED_OUT),
    ],
)
def test_without_a_detail_the_text_decides(
    status: RPCStatusCode, text: str, outcome: type, code: ErrorCode
) -> None:
    answer = classify(error(status, text), reads=False)
    assert (type(answer), answer.code) == (outcome, code)


# What the client's core says of a connection that it never made; and of one that it can't make again.
@pytest.mark.parametrize(
    ("text", "outcome", "see"),
    [
        ("`get_system_info` call error: Status { code: Unauthenticated }", Misconfigured, CREDENTIALS),
        ("`get_system_info` call error: Status { code: 'PermissionDenied' }", Misconfigured, CREDENTIALS),
        ("received corrupt message of type InvalidContentType", Misconfigured, TLS),
        ("CorruptMessage", Misconfigured, TLS),
        ("invalid peer certificate: NotValidForName", Misconfigured, "OUTBOX_TEMPORAL_ADDRESS"),
        ("H2NotNegotiated", Misconfigured, "OUTBOX_TEMPORAL_ADDRESS"),
        ("InvalidCertificate(UnknownIssuer)", Misconfigured, "OUTBOX_TEMPORAL_TLS_CA"),
        ("AlertReceived(CertificateRequired)", Misconfigured, "OUTBOX_TEMPORAL_TLS_CERT"),
        ("received fatal alert: CertificateExpired", Misconfigured, "OUTBOX_TEMPORAL_TLS_CERT"),
        ("transport error", Transient, TLS),
        ("operation was canceled", Transient, TLS),
        ("h2 protocol error: x", Transient, TLS),
        ("tls handshake eof", Transient, TLS),
        ('tonic::transport::Error(Transport, "tcp connect error")', Transient, None),
    ],
)
def test_a_connection_that_fails_while_it_is_made_has_no_status(
    text: str, outcome: type, see: str | None
) -> None:
    code = ErrorCode.MISCONFIGURED if outcome is Misconfigured else ErrorCode.UNREACHABLE
    assert meant(RuntimeError(NO_CONNECTION + text)) == (outcome, code, see)
    # Whatever else says so was no connection.
    assert meant(RuntimeError(text))[:2] == meant(ValueError(NO_CONNECTION + text))[:2] == NO_ANSWER


@pytest.mark.parametrize(
    ("text", "see"),
    [
        ("received corrupt message of type InvalidContentType", TLS),
        ("invalid peer certificate: certificate not valid for name x", "OUTBOX_TEMPORAL_ADDRESS"),
        ("invalid peer certificate: UnknownIssuer", "OUTBOX_TEMPORAL_TLS_CA"),
        ("received fatal alert: CertificateExpired", "OUTBOX_TEMPORAL_TLS_CERT"),
    ],
)
def test_a_connection_that_can_not_be_made_again_tells_why(text: str, see: str) -> None:
    assert meant(error(S.UNAVAILABLE, text)) == (Misconfigured, ErrorCode.MISCONFIGURED, see)
    lost = (Unknown, ErrorCode.CONNECTION_LOST, None)
    assert meant(error(S.UNAVAILABLE, f"history: {text}")) == lost


def test_a_read_leaves_nothing_in_doubt() -> None:
    answers = [classify(error(status), reads=True) for status in S if status is not S.OK]
    assert not [answer for answer in answers if isinstance(answer, Unknown)]
    assert classify(TimeoutError(), reads=True) == Transient(
        ErrorCode.TIMED_OUT, "temporal: no answer within the deadline"
    )


def test_what_is_not_an_answer_is_unknown() -> None:
    assert classify(TimeoutError(), reads=False) == Unknown(
        ErrorCode.TIMED_OUT, "temporal: no answer within the deadline"
    )
    answer = classify(RuntimeError("what? key"), reads=False, api_key=" key")
    assert answer == Unknown(ErrorCode.UNEXPECTED, "temporal: RuntimeError: what?***")


def test_that_a_name_is_taken_or_free_is_no_doubt_of_a_read() -> None:
    assert isinstance(classify(error(S.ALREADY_EXISTS), reads=True), Taken)
    assert isinstance(classify(error(S.NOT_FOUND, detail=NotFoundFailure()), reads=True), Absent)


def test_a_message_names_the_status_and_a_connections_error_its_kind() -> None:
    assert classify(error(S.ABORTED, "x"), reads=False).message == "temporal: ABORTED x"
    never = classify(RuntimeError(NO_CONNECTION + "key"), reads=False, api_key="key")
    assert never.message == f"temporal: RuntimeError: {NO_CONNECTION}***"


def test_messages_are_one_short_line_without_the_api_key() -> None:
    text = "tried\nkey-1234 " + "x" * 1000
    message = classify(error(S.INTERNAL, text), reads=False, api_key="key-1234").message
    assert message.startswith("temporal: INTERNAL tried *** xxx")
    assert len(message) == 500


def test_however_long_a_message_is_it_ends_with_what_to_look_at() -> None:
    text = "Namespace " + "x" * 1000 + " is not found."
    message = classify(error(S.NOT_FOUND, text), reads=False).message
    assert message.endswith("xxx (see OUTBOX_TEMPORAL_NAMESPACE)")
    assert len(message) == 500
