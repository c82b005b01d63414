"""`python -m services.orchestrator`: runs turns with the profiles of SHIELDMESH_ORCHESTRATOR_PROFILES."""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import grpc
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shieldmesh import channels, server, settings
from shieldmesh.profile import ProfileError
from shieldmesh.settings import ServiceSettings
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc
from shieldmesh.v1.inference_pb2_grpc import InferenceServiceStub
from shieldmesh.v1.shield_pb2_grpc import ShieldServiceStub

from .live import LiveProfiles
from .servicer import ChatServicer
from .turn import Services


class OrchestratorSettings(ServiceSettings):
    """Settings of this service, from SHIELDMESH_ORCHESTRATOR_*."""

    model_config = SettingsConfigDict(env_prefix="SHIELDMESH_ORCHESTRATOR_")

    listen: str = "127.0.0.1:50054"
    shield: str = "127.0.0.1:50052"
    """Where the shield service is."""
    inference: str = "127.0.0.1:50053"
    """Where the inference service is."""
    profiles: Path = Path("profiles")
    """The directory of the profiles; those of single tenants lie in `tenants/TENANT/` below it."""
    watch_profiles: bool = True
    """Use profiles as soon as their files change, without a restart."""
    window: int = Field(default=16_384, ge=1, le=10_000_000)
    """Characters of released text that may wait for a slow client."""


def main() -> None:
    """Runs the service until SIGTERM or SIGINT; a wrong setting or profile ends it with its place."""
    given = settings.load(OrchestratorSettings)
    try:
        profiles = LiveProfiles(given.profiles)
    except ProfileError as error:
        sys.exit(str(error))

    @asynccontextmanager
    async def open_service(grpc_server: grpc.aio.Server) -> AsyncGenerator[Sequence[str]]:
        services = Services(
            shields=ShieldServiceStub(channels.get(given.shield)),
            models=InferenceServiceStub(channels.get(given.inference)),
            window=given.window,
        )
        chat_pb2_grpc.add_ChatServiceServicer_to_server(ChatServicer(lambda: profiles.now, services), grpc_server)
        profiles.tell()
        async with profiles.following() if given.watch_profiles else nullcontext():
            yield [chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name]

    downstream = {"shield": given.shield, "inference": given.inference}
    server.run(
        name="orchestrator",
        settings=given,
        open_service=open_service,
        downstream=downstream,
        conditions={"profiles": profiles.fresh},
    )


if __name__ == "__main__":
    settings.exit_on_system_error(main)
