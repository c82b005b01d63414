"""What can go wrong, as one shallow tree of typed errors, and its form on the wire.

A `MeshError` becomes a gRPC status with `google.rpc.Status` details (ErrorInfo, BadRequest, RetryInfo, CallPath) and
comes back as the same type on the other side. Each service it passes adds itself once as a `Hop`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from shieldmesh.v1 import errors_pb2

DOMAIN: Final = "shieldmesh"
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"
USAGE_KEY: Final = "x-usage-bin"
"""Trailing metadata of a generation that ended without `finished`: its `shieldmesh.v1.Usage`."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One service's part in a failed call; see `shieldmesh.v1.Hop`."""

    service: str
    method: str
    instance: str = ""
    span_id: str = ""
    elapsed: float = 0.0
    """Seconds."""
    reason: str = ""


class MeshError(Exception):
    """The mesh could not do its job.

    Attributes:
        message: What happened, what was expected, what to do. Safe to show to clients.
        reason: A stable name in capitals for programs to act on.
        field: The request's field that is wrong, or "".
        retry_after: Seconds after which trying again makes sense, or None.
        hops: The call path, outermost first; the last one failed.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    default_reason: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        field: str = "",
        retry_after: float | None = None,
        hops: Iterable[Hop] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.field = field
        self.retry_after = retry_after
        self.hops = tuple(hops)

    def seen_by(self, hop: Hop) -> None:
        """Adds a hop at the outer end of the path, as the error unwinds through it."""
        self.hops = (hop, *self.hops)

    def __str__(self) -> str:
        """The message, then the call path as a tree."""
        head = f"{self.message} [{self.code.name} {self.reason}]"
        return "\n".join([head, *(_branch(depth, hop) for depth, hop in enumerate(self.hops))])


def _branch(depth: int, hop: Hop) -> str:
    instance = f" @{hop.instance}" if hop.instance else ""
    return f"{'   ' * depth}└─ {hop.service} {hop.method}{instance} {hop.elapsed * 1000:.0f} ms {hop.reason}".rstrip()


class InvalidArgumentError(MeshError):
    """The request is wrong and will stay wrong; `field` names the place."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "FIELD_INVALID"


class NotFoundError(MeshError):
    """Something that the request names does not exist."""

    code = grpc.StatusCode.NOT_FOUND
    default_reason = "NOT_FOUND"


class FailedPreconditionError(MeshError):
    """The request is right, but not in the present state."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"


class UnauthenticatedError(MeshError):
    """The caller did not say, or could not prove, who it is."""

    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"


class PermissionDeniedError(MeshError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class ResourceExhaustedError(MeshError):
    """A limit is reached; `retry_after` says when to try again."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "LIMIT_REACHED"


class DeadlineExceededError(MeshError):
    """The time for the call ran out."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class CancelledCallError(MeshError):
    """Someone other than the reader of this stream cancelled the work."""

    code = grpc.StatusCode.CANCELLED
    default_reason = "CANCELLED"


class UnavailableError(MeshError):
    """A service cannot be reached or went away; trying again may help."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = "SERVICE_UNAVAILABLE"


class UnimplementedError(MeshError):
    """The server does not know this method."""

    code = grpc.StatusCode.UNIMPLEMENTED
    default_reason = "UNIMPLEMENTED"


class DataLossError(MeshError):
    """Something that was promised cannot be given any more."""

    code = grpc.StatusCode.DATA_LOSS
    default_reason = "DATA_LOSS"


class InternalError(MeshError):
    """A defect or a broken part of the mesh; details are in the log of the last hop."""

    code = grpc.StatusCode.INTERNAL
    default_reason = "INTERNAL"


_BY_CODE: Final[dict[grpc.StatusCode, type[MeshError]]] = {
    kind.code: kind
    for kind in (
        InvalidArgumentError,
        NotFoundError,
        FailedPreconditionError,
        UnauthenticatedError,
        PermissionDeniedError,
        ResourceExhaustedError,
        DeadlineExceededError,
        CancelledCallError,
        UnavailableError,
        UnimplementedError,
        DataLossError,
        InternalError,
    )
}


_FOREIGN: Final[dict[type[MeshError], str]] = {
    UnavailableError: "a service cannot be reached",
    DeadlineExceededError: "the deadline passed",
    CancelledCallError: "the call was cancelled",
    UnimplementedError: "the service does not know this method",
}


def to_status(error: MeshError) -> status_pb2.Status:
    """The error as `google.rpc.Status` with its details."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code.name), message=error.message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain=DOMAIN, reason=error.reason))
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration(error.retry_after)))
    if error.hops:
        status.details.add().Pack(errors_pb2.CallPath(hops=[_hop_to_proto(hop) for hop in error.hops]))
    return status


def from_rpc_error(error: grpc.aio.AioRpcError) -> MeshError:
    """The typed error behind a failed call.

    A server that knows nothing of this mesh gives an error of the type of its status code, with an empty path and
    a plain message: its own could hold addresses, exception texts or secrets.
    """
    try:
        status = status_pb2.Status.FromString(_details(error.trailing_metadata()))
    except DecodeError:
        status = status_pb2.Status()
    return _typed(_BY_CODE.get(error.code(), MeshError), status)


def from_status(status: status_pb2.Status) -> MeshError:
    """The error behind what `to_status` made of it."""
    kinds = {code_pb2.Code.Value(code.name): kind for code, kind in _BY_CODE.items()}
    return _typed(kinds.get(status.code, MeshError), status)


def from_name(code: str, message: str, reason: str) -> MeshError:
    """The error of the status code with this name."""
    kinds = {kind.code.name: kind for kind in _BY_CODE.values()}
    return kinds.get(code, MeshError)(message, reason=reason)


def _typed(kind: type[MeshError], status: status_pb2.Status) -> MeshError:
    info, bad, retry, path = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
        errors_pb2.CallPath(),
    )
    for detail in status.details:
        for wanted in (info, bad, retry, path):
            detail.Unpack(wanted)
    ours = info.domain == DOMAIN
    return kind(
        status.message if ours else _FOREIGN.get(kind, "a service failed"),
        reason=info.reason if ours else "",
        field=bad.field_violations[0].field if bad.field_violations else "",
        retry_after=seconds(retry.retry_delay) if retry.HasField("retry_delay") else None,
        hops=[_hop_from_proto(hop) for hop in path.hops],
    )


def _details(metadata: grpc.aio.Metadata | None) -> bytes:
    for key, value in metadata or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            return value
    return b""


def _hop_to_proto(hop: Hop) -> errors_pb2.Hop:
    return errors_pb2.Hop(
        service=hop.service,
        method=hop.method,
        instance=hop.instance,
        span_id=hop.span_id,
        elapsed=duration(hop.elapsed),
        reason=hop.reason,
    )


def _hop_from_proto(hop: errors_pb2.Hop) -> Hop:
    return Hop(hop.service, hop.method, hop.instance, hop.span_id, seconds(hop.elapsed), hop.reason)


def duration(value: float) -> Duration:
    """Seconds as a protobuf Duration, to the microsecond."""
    micros = round(value * 1_000_000)
    whole = int(micros / 1_000_000)  # towards zero: seconds and nanoseconds have one sign
    return Duration(seconds=whole, nanos=(micros - whole * 1_000_000) * 1_000)


def seconds(value: Duration) -> float:
    """A protobuf Duration as seconds."""
    return (value.seconds * 1_000_000 + int(value.nanos / 1_000)) / 1_000_000
