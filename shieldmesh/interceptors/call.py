"""A call as interceptors see it, on either side.

A server interceptor is a context manager around the handler, entered in the RPC's own task: it sees the call once, not
once per message, so a stream costs no more for having ten of them. It never waits.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import grpc

Metadata = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """Who serves: what hops, logs and spans call this process."""

    service: str
    """For example "orchestrator"."""
    instance: str
    """Host or pod name and a random suffix."""
    call_cap: float = 600.0
    """Seconds that a call may take when its caller set no deadline, and at most."""


class CallerGoneError(asyncio.CancelledError):
    """The caller of a call that is being served is gone: a cancellation that shows first where something is sent."""


@dataclass(slots=True)
class ServerCall:
    """One call being served."""

    server: ServerIdentity
    method: str
    """Fully qualified, without a leading slash: "shieldmesh.v1.ChatService/Chat"."""
    metadata: Metadata
    """What the caller sent; for interceptors while they begin, empty behind that."""
    time_remaining: float | None
    """Seconds that the caller allows; None without a deadline."""
    started: float = field(default_factory=time.monotonic)
    sent: int = 0
    """Messages written so far."""
    writing: bool = False
    """Whether a message is being written, which may take as long as the caller does not read."""
    written: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """What waits for the end of that."""
    marks: dict[str, str | int] = field(default_factory=dict[str, str | int])
    """Attributes of its span, which get there together when it ends."""


@dataclass(slots=True)
class ClientCall:
    """One call about to be made. Interceptors add metadata, shorten the timeout, and may ask to hear of its end."""

    method: str
    target: str
    metadata: list[tuple[str, str]]
    timeout: float | None
    when_done: list[Callable[[grpc.StatusCode], None]] = field(default_factory=list[Callable[[grpc.StatusCode], None]])
    started: float = field(default_factory=time.monotonic)
    given_up: bool = False
    """Whether this side cancelled it; known when it is done."""


ServerInterceptor = Callable[[ServerCall], AbstractContextManager[object]]
ClientInterceptor = Callable[[ClientCall], None]
