"""The session's identity on the wire: a few plainly named metadata entries, ids and small values only."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Final

from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator

from shieldmesh import context
from shieldmesh.context import ID_PATTERN, NO_VALUES, RequestContext, new_id
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


def serve(call: ServerCall) -> AbstractContextManager[object]:
    """Makes the caller's identity the current context."""
    session, request, tenant, profile, version = _ids(call.metadata, SESSION, REQUEST, TENANT, PROFILE, PROFILE_VERSION)
    return _as(RequestContext(session, request, tenant, profile, version, values=_values(call.metadata)), call)


def serve_edge(allowed: Collection[str] = ()) -> ServerInterceptor:
    """Mints the identity of calls from outside.

    Of all that a caller sends, its session id is taken, checked, and the session values whose names are `allowed`.
    """

    def serve_outside(call: ServerCall) -> AbstractContextManager[object]:
        (session,) = _ids(call.metadata, SESSION)
        values = _allowed(_values(call.metadata), allowed)
        return _as(RequestContext(session_id=session or new_id(), request_id=new_id(), values=values), call)

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
    for entry in entries:
        if entry[1]:
            call.metadata.append(entry)
    if ours.values:
        carrier: dict[str, str] = {}
        bags = None
        for key, value in ours.values.items():
            bags = baggage.set_baggage(VALUE_PREFIX + key, value, bags)
        _PROPAGATOR.inject(carrier, bags)
        _check_size(carrier.get(BAGGAGE, ""))
        call.metadata.extend(carrier.items())


def _ids(metadata: Metadata, *keys: str) -> list[str]:
    ids: list[str] = []
    for key in keys:
        value = metadata.get(key, "")
        if value and not ID_PATTERN.fullmatch(value):
            raise InvalidArgumentError(
                f"the metadata entry {key} is not an id: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -",
                field=f"metadata.{key}",
            )
        ids.append(value)
    return ids


def _values(metadata: Metadata) -> Mapping[str, str]:
    encoded = metadata.get(BAGGAGE, "")
    if not encoded:
        return NO_VALUES
    _check_size(encoded)
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


def _allowed(values: Mapping[str, str], allowed: Collection[str]) -> Mapping[str, str]:
    for name in values:
        if name not in allowed:
            expected = f"only {', '.join(sorted(allowed))}" if allowed else "none"
            raise InvalidArgumentError(
                f"the baggage holds a session value that may not be set here ({expected} may): leave it out",
                field="metadata.baggage",
            )
    return values


def _as(identity: RequestContext, call: ServerCall) -> context.use:
    """Makes this identity the current one, and ties the call's span to the session and the turn."""
    for name, value in (
        (Name.SESSION, identity.session_id),
        (Name.TURN, identity.request_id),
        (Name.TENANT, identity.tenant_id),
        (Name.PROFILE, identity.profile),
        (Name.PROFILE_VERSION, identity.profile_version),
    ):
        if value:
            call.marks[name] = value
    return context.use(identity)
