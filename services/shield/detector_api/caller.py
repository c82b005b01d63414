"""The caller of an HTTP request: what it sends, and whether it still waits."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.interceptors.call import CallerGoneError

T = TypeVar("T")


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request that brings JSON, of at most `limit` bytes; no more than that is ever kept.

    Raises:
        InvalidArgumentError: it is something else, or longer.
        CallerGoneError: the caller left before its end.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        # Web pages can have a browser send other types to local ports without asking; this one they cannot.
        raise InvalidArgumentError("content-type: expected application/json", field="content-type")
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                message = f"the body is too large: at most {limit} bytes are taken; send fewer contents at once"
                raise InvalidArgumentError(message, field="body")
    except ClientDisconnect:
        raise CallerGoneError from None
    return bytes(body)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:  # Any: what coroutines of no generator have
    """The result of the work, which is stopped when the caller goes away. To be called when the body has been read.

    Raises:
        CallerGoneError: the caller went away.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_goes(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CallerGoneError
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.wait({working, watching})


async def _goes(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
