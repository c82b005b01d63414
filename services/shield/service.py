"""What the process serves: the shields behind one servicer."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import grpc

from shieldmesh.profile.options import SHIELD_TYPES
from shieldmesh.v1 import policy_pb2, shield_pb2, shield_pb2_grpc

from .catalogue import Catalogue
from .detector_api import Listening, detector_app, serving
from .remote.remotes import Remotes
from .servicer import ShieldServicer
from .window.building import Means

SERVICE: Final = shield_pb2.DESCRIPTOR.services_by_name["ShieldService"].full_name


@asynccontextmanager
async def open_service(
    server: grpc.aio.Server,
    *,
    default_timeout: float,
    max_characters: int,
    kept_shields: int,
    detector_api: Listening | None = None,
    remotes: Remotes | None = None,
    means: Means | None = None,
) -> AsyncGenerator[Sequence[str], None]:
    """Adds the service to the server, serves the detector API beside it, and yields the service's full name.

    Raises:
        SystemExit: the detector API's address cannot be served; the message says why.
    """
    catalogue = Catalogue(capacity=kept_shields, default_timeout=default_timeout, remotes=remotes, means=means)
    await catalogue.shields(_with_defaults())
    shield_pb2_grpc.add_ShieldServiceServicer_to_server(
        ShieldServicer(catalogue, max_characters=max_characters), server
    )
    if detector_api is None:
        yield [SERVICE]
        return
    app = detector_app(catalogue, max_characters=max_characters, call_cap=detector_api.call_cap)
    async with serving(app, detector_api):
        yield [SERVICE]


def _with_defaults() -> Sequence[policy_pb2.ShieldSpec]:
    """Every type that needs no options. Building these at the start compiles the automata before the first request."""
    return [
        policy_pb2.ShieldSpec(name=each.name, type=each.name, action=policy_pb2.ACTION_FLAG)
        for each in SHIELD_TYPES.values()
        if not any(field.is_required() for field in each.options.model_fields.values())
    ]
