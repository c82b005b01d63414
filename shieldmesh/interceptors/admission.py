"""Calls wait for a place, or are sent away, before anything is done for them."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from shieldmesh.admission import Places
from shieldmesh.interceptors.call import ServerCall, ServerInterceptor


def limited(places: Mapping[str, Places]) -> ServerInterceptor:
    """Has calls of these methods (fully qualified) hold a place; those of all others are never refused.

    It belongs behind the interceptors that know the tenant and the deadline. Methods whose calls wait for each other
    need places of their own: calls that hold all of them could wait for those that get none.
    """

    @asynccontextmanager
    async def serve(call: ServerCall) -> AsyncGenerator[None]:
        limit = places.get(call.method)
        if limit is None:
            yield
            return
        async with limit.place():
            yield

    return serve
