"""Errors, on the wire and back, and as people read them."""

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from shieldmesh import errors
from shieldmesh.errors import (
    CancelledCallError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    Hop,
    InternalError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)

KINDS = (
    CancelledCallError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)

words = st.text(max_size=20)
moments = st.integers(0, 10**10).map(lambda microseconds: microseconds / 1_000_000)
hops = st.builds(Hop, words, words, words, words, moments, words)


@st.composite
def mesh_errors(draw: st.DrawFn) -> MeshError:
    """Any error with any fields."""
    kind = draw(st.sampled_from(KINDS))
    return kind(
        draw(words),
        reason=draw(words),
        field=draw(words),
        retry_after=draw(st.none() | moments),
        hops=draw(st.lists(hops, max_size=4)),
    )


def received(code: grpc.StatusCode, details: str, trailing: bytes | None = None) -> grpc.aio.AioRpcError:
    """A failed call as grpc.aio raises it."""
    entries = [] if trailing is None else [(errors.STATUS_DETAILS_KEY, trailing)]
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*entries), details)


@settings(max_examples=100)
@given(mesh_errors())
def test_an_error_comes_back_as_it_left(error: MeshError) -> None:
    """Type, message, reason, field, time to retry and the whole path survive the wire."""
    wire = errors.to_status(error).SerializeToString()
    back = errors.from_rpc_error(received(error.code, "ignored", wire))
    assert type(back) is type(error)
    assert (back.message, back.reason, back.field, back.retry_after, back.hops) == (
        error.message,
        error.reason,
        error.field,
        error.retry_after,
        error.hops,
    )


def test_the_status_speaks_the_standard_details() -> None:
    """Clients without this library find the reason, the field and the delay where google.rpc puts them."""
    status = errors.to_status(InvalidArgumentError("too hot", field="sampling.temperature", retry_after=1.5))
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    assert all(detail.Unpack(into) for detail, into in zip(status.details, (info, bad, retry), strict=True))
    assert (status.code, status.message) == (code_pb2.INVALID_ARGUMENT, "too hot")
    assert (info.domain, info.reason) == ("shieldmesh", "FIELD_INVALID")
    assert [violation.field for violation in bad.field_violations] == ["sampling.temperature"]
    assert retry.retry_delay.ToMilliseconds() == 1500


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_error_keeps_its_type_and_nothing_else(kind: type[MeshError]) -> None:
    """What another server says can hold addresses, exceptions and secrets: of it only the code is taken."""
    error = errors.from_rpc_error(received(kind.code, "password=hunter2 at 10.0.0.7"))
    assert type(error) is kind
    assert "hunter2" not in str(error) + repr(error)
    assert error.hops == ()


def test_foreign_details_are_not_taken_either() -> None:
    """Details of another domain speak of another system: neither their message nor their reason is shown."""
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="hunter2")
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain="elsewhere.example", reason="HUNTER2"))
    error = errors.from_rpc_error(received(grpc.StatusCode.UNAVAILABLE, "hunter2", status.SerializeToString()))
    assert type(error) is UnavailableError
    assert "hunter2" not in str(error).lower()


@pytest.mark.parametrize("trailing", [b"\xff\xff\xff", b"", None], ids=["garbage", "empty", "none"])
def test_details_that_cannot_be_read(trailing: bytes | None) -> None:
    """The type of the code is still known."""
    assert type(errors.from_rpc_error(received(grpc.StatusCode.NOT_FOUND, "x", trailing))) is NotFoundError


def test_a_code_without_a_type() -> None:
    """A code that this mesh never uses is a plain MeshError."""
    assert type(errors.from_rpc_error(received(grpc.StatusCode.OUT_OF_RANGE, "x"))) is MeshError


def test_it_reads_as_a_tree() -> None:
    """The message, then the path, a line for each hop, deeper the further in."""
    error = UnavailableError("the detector is away", reason="DETECTOR_AWAY")
    error.seen_by(Hop("shield", "shieldmesh.v1.ShieldService/Inspect", "pod-b", elapsed=0.0104, reason="DETECTOR_AWAY"))
    error.seen_by(Hop("gateway", "shieldmesh.v1.ChatService/Chat", elapsed=0.25, reason="DETECTOR_AWAY"))
    assert str(error).splitlines() == [
        "the detector is away [UNAVAILABLE DETECTOR_AWAY]",
        "└─ gateway shieldmesh.v1.ChatService/Chat 250 ms DETECTOR_AWAY",
        "   └─ shield shieldmesh.v1.ShieldService/Inspect @pod-b 10 ms DETECTOR_AWAY",
    ]


@given(moments)
def test_durations_come_back(seconds: float) -> None:
    """Seconds survive as a protobuf Duration, to the microsecond."""
    assert errors.seconds(errors.duration(seconds)) == seconds
