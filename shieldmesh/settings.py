"""Settings of a process: one frozen object, read once in `__main__` and passed down.

This is the only place that reads the environment.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from shieldmesh.admission import MAX_RUNNING, MAX_WAITING, Places
from shieldmesh.context import ID_PATTERN

MAX_SOCKET_PATH = 107
"""Bytes of a Unix socket's path (sockaddr_un on Linux, less the closing NUL)."""
MAX_PORT = 65_535


class ServiceSettings(BaseSettings):
    """What every service can be told. A service subclasses this with its own prefix, SHIELDMESH_<SERVICE>_."""

    # Without a prefix a subclass that forgets its own would take any WORKERS or LISTEN of the environment for its own.
    model_config = SettingsConfigDict(env_prefix="SHIELDMESH_SERVICE_", frozen=True, extra="forbid")

    listen: str
    """Where to serve gRPC: `host:port` or `unix:/path`."""
    log_format: Literal["json", "text"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_notice: float = Field(default=0.0, ge=0, le=600)
    """Seconds between turning NOT_SERVING and refusing new calls, for load balancers to notice."""
    drain_grace: float = Field(default=10.0, ge=0, le=3600)
    """Seconds that running calls get to finish when the service stops."""
    call_cap: float = Field(default=600.0, gt=0, le=86_400)
    """Seconds that any call may take."""
    metrics_listen: str = ""
    """Where to serve metrics for Prometheus, at /metrics: `host:port`. Empty: nowhere. Each further worker serves its
    own at the next port."""
    trace_ratio: float = Field(default=1.0, ge=0, le=1)
    """The share of the traces that begin here which are recorded; those of callers are recorded as they decided."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes that serve the address together, each with limits of its own; see docs/scaling.md."""
    share_port: bool = False
    """Let other processes of this machine serve the address, too, if they are told the same. Workers are."""


TenantId = Annotated[str, Field(pattern=f"^{ID_PATTERN.pattern}$")]
Weights = dict[TenantId, Annotated[int, Field(ge=1, le=1_000)]]
"""Tenants' shares against each other; those that are not named have 1."""


class LimitedSettings(ServiceSettings):
    """What services can be told that limit how much they do at a time."""

    max_running: int = Field(default=MAX_RUNNING, ge=1, le=1_000_000)
    """Calls of one method that run at the same time."""
    max_waiting: int = Field(default=MAX_WAITING, ge=0, le=1_000_000)
    """Calls of one method that may wait for a place; more are refused."""
    weights: Weights = Field(default_factory=dict[str, int])
    """The tenants' shares of the places while calls wait, as a JSON map; those that are not named have 1."""

    def places(self, name: str) -> Places:
        """The places for one method, which messages and metrics call `name`."""
        return Places(name, max_running=self.max_running, max_waiting=self.max_waiting, weights=self.weights)


class Secret(BaseModel):
    """Where a secret lies: settings name it and never hold it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str = ""
    """The environment variable that holds it."""
    file: str = ""
    """The file that holds it; blanks around it do not count."""

    @model_validator(mode="after")
    def _one(self) -> "Secret":
        if bool(self.env) == bool(self.file):
            raise ValueError('expected {"env": NAME} or {"file": PATH}')
        return self

    def read(self, name: str) -> str:
        """The secret: one line of printable ASCII.

        Raises:
            SystemExit: it is not there, or no such line; the message calls the setting `name` and quotes no secret.
        """
        try:
            value = os.environ.get(self.env, "") if self.env else Path(self.file).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no ASCII text"
            raise SystemExit(f"{name}: the file {self.file} cannot be used: {reason}") from None
        value = value.strip()
        if not value or not value.isascii() or not value.isprintable():
            place = f"the environment variable {self.env}" if self.env else f"the file {self.file}"
            raise SystemExit(f"{name}: {place} must hold one line of printable ASCII")
        return value


S = TypeVar("S", bound=ServiceSettings)


def load(kind: type[S]) -> S:
    """The settings from the environment.

    Raises:
        SystemExit: a value is wrong or a name with this service's prefix is unknown; the message names the variable.
    """
    prefix = kind.model_config.get("env_prefix", "")
    known = {f"{prefix}{name}".upper() for name in kind.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(prefix) and name not in known)
    if unknown:
        raise SystemExit(f"unknown setting {unknown[0]}: expected one of {', '.join(sorted(known))}")
    try:
        settings = kind()  # pyright: ignore[reportCallIssue]  # a subclass gives `listen` its default
    except SettingsError as error:
        # It names the field in a sentence about its own sources.
        field = str(error).partition('"')[2].partition('"')[0]
        raise SystemExit(f"wrong settings:\n  {prefix}{field.upper()}: expected a list or a map in JSON") from None
    except ValidationError as error:
        problems = [f"{prefix}{'_'.join(map(str, e['loc']))}".upper() + f": {e['msg']}" for e in error.errors()]
        raise SystemExit("wrong settings:\n  " + "\n  ".join(problems)) from None
    check_address(settings.listen, f"{prefix}LISTEN")
    if settings.metrics_listen:
        split_address(settings.metrics_listen, f"{prefix}METRICS_LISTEN")
    return settings


def environment(given: ServiceSettings, changes: Mapping[str, object]) -> dict[str, str]:
    """The environment of a process that is told the same as this one, but for these settings."""
    prefix = given.model_config.get("env_prefix", "")
    return {**os.environ, **{f"{prefix}{name}".upper(): str(value) for name, value in changes.items()}}


def check_address(address: str, name: str) -> None:
    """Refuses an address that no socket could have.

    Raises:
        SystemExit: the path of a Unix socket is too long; the message says by how much and what to do.
    """
    path = address.removeprefix("unix:")
    length = len(os.fsencode(path))
    if path != address and length > MAX_SOCKET_PATH:
        raise SystemExit(
            f"{name}: the socket path {path} has {length} bytes, at most {MAX_SOCKET_PATH} are possible: "
            "choose a shorter directory"
        )


def split_address(address: str, name: str) -> tuple[str, int]:
    """The host and the port of `host:port`; an IPv6 address stands in brackets.

    Raises:
        SystemExit: it is something else; the message calls it `name`.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise SystemExit(f"{name}: {address!r} is no address: expected host:port, for example 127.0.0.1:9464")
    return host.removeprefix("[").removesuffix("]"), int(port)


def exit_on_system_error(run: Callable[[], None]) -> None:
    """Runs a process's main, turning expected operating system errors into one sentence and exit code 1."""
    try:
        run()
    except OSError as error:
        sys.exit(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
