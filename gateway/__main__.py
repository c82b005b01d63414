"""`python -m gateway`: serves the public API and passes it on to the orchestrator."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import grpc
from pydantic_settings import SettingsConfigDict

from shieldmesh import channels, server, settings
from shieldmesh.interceptors import edge
from shieldmesh.settings import LimitedSettings

from .proxy import STREAMS, add_proxies, path


class GatewaySettings(LimitedSettings):
    """Settings of the gateway, from SHIELDMESH_GATEWAY_*."""

    model_config = SettingsConfigDict(env_prefix="SHIELDMESH_GATEWAY_")

    listen: str = "127.0.0.1:50051"
    orchestrator: str = "127.0.0.1:50054"
    """Where the orchestrator is."""
    trust_trace: bool = False
    """Continue the traces of callers, whether they are recorded included; otherwise a turn's trace begins here, and is
    linked to the caller's."""
    session_values: tuple[str, ...] = ()
    """The session values that callers may set (baggage entries `sm.NAME`), as a JSON list of names."""
    diagnostics: bool = False
    """Serve DiagnosticsService: whoever can call the gateway may then look at the spans of every tenant's turns."""


def main() -> None:
    """Runs the gateway until SIGTERM or SIGINT; a wrong setting ends it with one sentence."""
    given = settings.load(GatewaySettings)

    @asynccontextmanager
    async def open_service(grpc_server: grpc.aio.Server) -> AsyncGenerator[Sequence[str]]:
        yield add_proxies(grpc_server, channels.get(given.orchestrator))

    server.run(
        name="gateway",
        settings=given,
        open_service=open_service,
        interceptors=edge(trust_trace=given.trust_trace, session_values=given.session_values),
        limits={path(each): given.places(f"gateway {each.name}") for each in STREAMS},
        downstream={"orchestrator": given.orchestrator} if given.diagnostics else None,
    )


if __name__ == "__main__":
    settings.exit_on_system_error(main)
