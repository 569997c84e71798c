"""Temporal's classification table: closed, and each row reached by the answer it is about."""

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


@pytest.mark.parametrize(
    ("status", "detail", "outcome"),
    [
        (S.NOT_FOUND, NamespaceNotFoundFailure(namespace="x"), Misconfigured),
        (S.NOT_FOUND, NotFoundFailure(), Absent),
        (S.NOT_FOUND, None, Misconfigured),
        (S.ALREADY_EXISTS, WorkflowExecutionAlreadyStartedFailure(), Taken),
    ],
)
def test_the_detail_decides_whatever_the_text(
    status: RPCStatusCode, detail: Message | None, outcome: type
) -> None:
    assert isinstance(classify(error(status, "in other words", detail), reads=False), outcome)


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
        (S.CANCELLED, "Timeout expired", Unknown, ErrorCode.TIMED_OUT),
        (S.DEADLINE_EXCEEDED, "", Unknown, ErrorCode.TIMED_OUT),
    ],
)
def test_without_a_detail_the_text_decides(
    status: RPCStatusCode, text: str, outcome: type, code: ErrorCode
) -> None:
    answer = classify(error(status, text), reads=False)
    assert (type(answer), answer.code) == (outcome, code)


@pytest.mark.parametrize(
    ("text", "outcome", "code"),
    [
        ('tonic::transport::Error(Transport, "tcp connect error")', Transient, ErrorCode.UNREACHABLE),
        (
            "`get_system_info` call error: Status { code: Unauthenticated }",
            Misconfigured,
            ErrorCode.MISCONFIGURED,
        ),
        ("Custom { error: InvalidCertificate(UnknownIssuer) }", Misconfigured, ErrorCode.MISCONFIGURED),
    ],
)
def test_a_connection_that_fails_while_it_is_made_has_no_status(
    text: str, outcome: type, code: ErrorCode
) -> None:
    answer = classify(RuntimeError(NO_CONNECTION + text), reads=False)
    assert (type(answer), answer.code) == (outcome, code)


def test_a_read_leaves_nothing_in_doubt() -> None:
    answers = [classify(error(status), reads=True) for status in S if status is not S.OK]
    assert not [answer for answer in answers if isinstance(answer, Unknown)]


def test_what_is_not_an_answer_is_unknown() -> None:
    assert isinstance(classify(TimeoutError(), reads=False), Unknown)
    answer = classify(RuntimeError("what?"), reads=False)
    assert answer == Unknown(ErrorCode.UNEXPECTED, "temporal: RuntimeError: what?")


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
