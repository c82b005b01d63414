"""The way to a shield service."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias, TypeVar

import typer

from shieldmesh.cli import service
from shieldmesh.v1 import shield_pb2_grpc

Stub: TypeAlias = "shield_pb2_grpc.ShieldServiceAsyncStub"  # exists for type checkers alone
T = TypeVar("T")

Url = Annotated[
    str,
    typer.Option(
        help="The shield service: grpc://host:port or unix:/path.",
        show_default="the one of the mesh that runs on this machine",
    ),
]


def ask(url: str, question: Callable[["Stub"], Awaitable[T]]) -> T:
    """The answer of the service at `url`; see `shieldmesh.cli.service.ask`."""
    return service.ask("shield", shield_pb2_grpc.ShieldServiceStub, url, question)
