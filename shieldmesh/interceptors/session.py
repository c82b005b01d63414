"""The session's identity on the wire: a few plainly named metadata entries, ids and small values only."""

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final

from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator

from shieldmesh import context
from shieldmesh.context import ID_PATTERN, RequestContext, new_id
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.interceptors.call import ClientCall, Metadata, ServerCall, ServerInterceptor
from shieldmesh.telemetry import Name

SESSION: Final = "x-session-id"
REQUEST: Final = "x-request-id"
TENANT: Final = "x-tenant-id"
PROFILE: Final = "x-profile"
PROFILE_VERSION: Final = "x-profile-version"
BAGGAGE: Final = "baggage"
VALUE_PREFIX: Final = "sm."
"""What marks a session value in baggage; everything else in it is dropped."""
LARGEST_BAGGAGE: Final = 2048
"""Bytes of the baggage entry."""

_PROPAGATOR: Final = W3CBaggagePropagator()


@asynccontextmanager
async def serve(call: ServerCall) -> AsyncGenerator[None]:
    """Makes the caller's identity the current context."""
    incoming = RequestContext(
        session_id=_id(call.metadata, SESSION),
        request_id=_id(call.metadata, REQUEST),
        tenant_id=_id(call.metadata, TENANT),
        profile=_id(call.metadata, PROFILE),
        profile_version=_id(call.metadata, PROFILE_VERSION),
        values=_values(call.metadata),
    )
    with context.use(incoming):
        _describe(incoming)
        yield


def serve_edge(allowed: Collection[str] = ()) -> ServerInterceptor:
    """Mints the identity of calls from outside.

    Of all that a caller sends, its session id is taken, checked, and the session values whose names are `allowed`.
    """

    @asynccontextmanager
    async def serve_outside(call: ServerCall) -> AsyncGenerator[None]:
        minted = RequestContext(
            session_id=_id(call.metadata, SESSION) or new_id(),
            request_id=new_id(),
            values=_allowed(_values(call.metadata), allowed),
        )
        with context.use(minted):
            _describe(minted)
            yield

    return serve_outside


def send(call: ClientCall) -> None:
    """Sends the current context on.

    Raises:
        InvalidArgumentError: the session values are more than the next service would take; the call is not made.
    """
    ours = context.current()
    entries = (
        (SESSION, ours.session_id),
        (REQUEST, ours.request_id),
        (TENANT, ours.tenant_id),
        (PROFILE, ours.profile),
        (PROFILE_VERSION, ours.profile_version),
    )
    call.metadata.extend((key, value) for key, value in entries if value)
    if ours.values:
        carrier: dict[str, str] = {}
        bags = None
        for key, value in ours.values.items():
            bags = baggage.set_baggage(VALUE_PREFIX + key, value, bags)
        _PROPAGATOR.inject(carrier, bags)
        _check_size(carrier.get(BAGGAGE, ""))
        call.metadata.extend(carrier.items())


def _id(metadata: Metadata, key: str) -> str:
    value = metadata.get(key, "")
    if value and not ID_PATTERN.fullmatch(value):
        raise InvalidArgumentError(
            f"the metadata entry {key} is not an id: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -",
            field=f"metadata.{key}",
        )
    return value


def _values(metadata: Metadata) -> MappingProxyType[str, str]:
    encoded = metadata.get(BAGGAGE, "")
    _check_size(encoded)
    if not encoded:
        return MappingProxyType({})
    bags = baggage.get_all(_PROPAGATOR.extract({BAGGAGE: encoded}))
    return MappingProxyType(
        {key.removeprefix(VALUE_PREFIX): str(value) for key, value in bags.items() if key.startswith(VALUE_PREFIX)}
    )


def _check_size(encoded: str) -> None:
    if len(encoded) > LARGEST_BAGGAGE:
        raise InvalidArgumentError(
            f"the session values are too large: {len(encoded)} bytes of baggage, at most {LARGEST_BAGGAGE} are allowed",
            field="metadata.baggage",
        )


def _allowed(values: MappingProxyType[str, str], allowed: Collection[str]) -> MappingProxyType[str, str]:
    for name in values:
        if name not in allowed:
            expected = f"only {', '.join(sorted(allowed))}" if allowed else "none"
            raise InvalidArgumentError(
                f"the baggage holds a session value that may not be set here ({expected} may): leave it out",
                field="metadata.baggage",
            )
    return values


def _describe(identity: RequestContext) -> None:
    """Ties the call's span to the session and the turn."""
    span = trace.get_current_span()
    for name, value in (
        (Name.SESSION, identity.session_id),
        (Name.TURN, identity.request_id),
        (Name.TENANT, identity.tenant_id),
        (Name.PROFILE, identity.profile),
        (Name.PROFILE_VERSION, identity.profile_version),
    ):
        if value:
            span.set_attribute(name, value)
