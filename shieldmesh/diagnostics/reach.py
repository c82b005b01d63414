"""The way to a mesh's diagnostics, and what to tell people who find none."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeAlias

from shieldmesh import channels
from shieldmesh.client.reach import explain
from shieldmesh.errors import MeshError, UnimplementedError
from shieldmesh.v1 import diagnostics_pb2_grpc

Stub: TypeAlias = "diagnostics_pb2_grpc.DiagnosticsServiceAsyncStub"  # exists for type checkers alone


def reach(target: str) -> "Stub":
    """The diagnostics of the mesh at `target`, in gRPC's notation."""
    return diagnostics_pb2_grpc.DiagnosticsServiceStub(channels.get(target))


@contextmanager
def explained(target: str) -> Generator[None]:
    """Around calls: an error says what to do when no mesh answers, or answers no such questions."""
    try:
        yield
    except UnimplementedError as error:
        raise UnimplementedError(
            f"the mesh at {target} serves no diagnostics: set SHIELDMESH_GATEWAY_DIAGNOSTICS=true for its gateway, as "
            "`shieldmesh up` does where only this machine can reach it",
            reason="DIAGNOSTICS_OFF",
        ) from error
    except MeshError as error:
        raise explain(error, target, 0) from None
