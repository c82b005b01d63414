"""`python -m services.orchestrator`: runs turns with the profiles of SHIELDMESH_ORCHESTRATOR_PROFILES."""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final

import grpc
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shieldmesh import channels, server, settings
from shieldmesh.draining import Background
from shieldmesh.profile import ProfileError
from shieldmesh.settings import LimitedSettings, Secret
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, session_pb2, session_pb2_grpc
from shieldmesh.v1.inference_pb2_grpc import InferenceServiceStub
from shieldmesh.v1.shield_pb2_grpc import ShieldServiceStub
from shieldmesh.window import BYTES, TOKENS

from .database import is_memory
from .flows.catalogue import Catalogue, CatalogueError, find_flows
from .live import LiveProfiles
from .log.memory import MEMORY
from .log.opening import TurnLogUnusableError, open_log
from .log.redis_log import LEASE
from .log.turn_log import CLAIM_WINDOW
from .redis_client import RedisUnusableError, is_redis
from .running import running_turns
from .servicer import ChatServicer
from .services import Services
from .sessions.opening import beside, open_sessions
from .sessions.servicer import SessionServicer
from .sessions.sqlite import MEMORY as SESSION_MEMORY
from .sessions.sqlite import SessionsFileError

SERVICE: Final = chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name
SESSIONS: Final = session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name


class OrchestratorSettings(LimitedSettings):
    """Settings of this service, from SHIELDMESH_ORCHESTRATOR_*."""

    model_config = SettingsConfigDict(env_prefix="SHIELDMESH_ORCHESTRATOR_")

    listen: str = "127.0.0.1:50054"
    shield: str = "127.0.0.1:50052"
    """Where the shield service is."""
    inference: str = "127.0.0.1:50053"
    """Where the inference service is."""
    profiles: Path = Path("profiles")
    """The directory of the profiles; those of single tenants lie in `tenants/TENANT/` below it."""
    flows: tuple[str, ...] = ()
    """Python modules with flows that profiles may name; no profile can load any other code."""
    modules: tuple[str, ...] = ()
    """URLs of modules that flows may call, letter by letter as profiles name them."""
    watch_profiles: bool = True
    """Use profiles as soon as their files change, without a restart."""
    window: int = Field(default=BYTES, ge=1, le=10_000_000)
    """Bytes of text that may wait for a slow client, and that a model may be ahead of what was taken from it."""
    ahead: int = Field(default=TOKENS, ge=1, le=10_000_000)
    """Tokens that may wait for a slow client, and that a model may be ahead of what was taken from it."""
    turn_log: str = ""
    """What keeps what turns released: a file, for one process alone; the URL of a Redis, for any number; or `memory:`,
    which leaves nothing on any disk and goes with the process. Empty: a temporary file that goes with the process."""
    turn_memory: int = Field(default=MEMORY, ge=1_048_576, le=1_099_511_627_776)
    """Bytes that a turn log in memory takes; when it is full, turns that have ended are forgotten before their time."""
    turn_lease: float = Field(default=LEASE, ge=0.1, le=600)
    """Seconds after which an orchestrator that Redis does not hear of is presumed dead, and its turns are lost."""
    redis_password: Secret | None = None
    """The password for the Redis of the turn log and of the sessions; URLs hold none."""
    turn_retention: float = Field(default=3_600.0, ge=0, le=31_536_000)
    """Seconds that a turn can be resumed and fetched after its end."""
    idempotency_window: float = Field(default=CLAIM_WINDOW, ge=0, le=31_536_000)
    """Seconds that an idempotency key stands for its turn."""
    sessions: str = ""
    """Where the history of sessions is kept: a file, for one process alone, the URL of a Redis, or `memory:`. Empty:
    where the turn log is; without that, in a temporary file that goes with the process."""
    session_memory: int = Field(default=SESSION_MEMORY, ge=1_048_576, le=1_099_511_627_776)
    """Bytes that sessions in memory take; when it is full, those are forgotten that would expire first."""
    turn_backlog: int = Field(default=16_777_216, ge=1, le=1_073_741_824)
    """Bytes of events that may wait for the turn log, before all turns wait with them."""


def main() -> None:
    """Runs the service until SIGTERM or SIGINT; a wrong setting or profile ends it with its place."""
    given = settings.load(OrchestratorSettings)
    if given.workers > 1 and not is_redis(given.turn_log):
        # A client that comes back could not find its turn: it may reach another worker.
        sys.exit(
            f"SHIELDMESH_ORCHESTRATOR_WORKERS is {given.workers}, but workers share turns through Redis alone: "
            "set SHIELDMESH_ORCHESTRATOR_TURN_LOG to redis://…, or have one worker"
        )
    if given.workers > 1 and is_memory(given.sessions):
        sys.exit(
            f"SHIELDMESH_ORCHESTRATOR_WORKERS is {given.workers}, but workers share sessions through Redis alone: "
            "let SHIELDMESH_ORCHESTRATOR_SESSIONS be empty or redis://…, or have one worker"
        )
    password = given.redis_password.read("SHIELDMESH_ORCHESTRATOR_REDIS_PASSWORD") if given.redis_password else ""
    try:
        flows = Catalogue(find_flows(given.flows).values(), given.modules)
        profiles = LiveProfiles(given.profiles, flows)
    except (CatalogueError, ProfileError) as error:
        sys.exit(str(error))
    background = Background()

    @asynccontextmanager
    async def open_service(grpc_server: grpc.aio.Server) -> AsyncGenerator[Sequence[str]]:
        services = Services(
            shields=ShieldServiceStub(channels.get(given.shield)),
            models=InferenceServiceStub(channels.get(given.inference)),
            window=given.window,
            places=given.places("orchestrator"),
            flows=flows,
            ahead=given.ahead,
        )
        async with (
            open_log(
                given.turn_log,
                password,
                lease=given.turn_lease,
                retention=given.turn_retention,
                backlog=given.turn_backlog,
                claim_window=given.idempotency_window,
                memory=given.turn_memory,
            ) as log,
            open_sessions(
                sessions, password, turn_retention=given.turn_retention, memory=given.session_memory
            ) as store,
            running_turns(log) as turns,
            profiles.following() if given.watch_profiles else nullcontext(),
        ):
            background.add(turns)
            servicer = ChatServicer(lambda: profiles.now, services, turns, store)
            chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, grpc_server)
            session_pb2_grpc.add_SessionServiceServicer_to_server(SessionServicer(store, turns), grpc_server)
            profiles.tell()
            yield [SERVICE, SESSIONS]

    sessions = given.sessions or beside(given.turn_log)
    downstream = {"shield": given.shield, "inference": given.inference}
    try:
        server.run(
            name="orchestrator",
            settings=given,
            open_service=open_service,
            # What turns are limited by is theirs, not their call's: they can outlast it.
            limits={f"{SERVICE}/Resume": given.places("orchestrator Resume")},
            background=background,
            downstream=downstream,
            conditions={"profiles": profiles.fresh},
        )
    except TurnLogUnusableError as error:
        sys.exit(f"SHIELDMESH_ORCHESTRATOR_TURN_LOG: {error}")
    except (SessionsFileError, RedisUnusableError) as error:
        sys.exit(f"SHIELDMESH_ORCHESTRATOR_SESSIONS: {error}")


if __name__ == "__main__":
    settings.exit_on_system_error(main)
