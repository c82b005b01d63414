"""Deadlines travel: each hop works with what its caller has left, less a margin for the answer's way back."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

from shieldmesh import context
from shieldmesh.errors import DeadlineExceededError
from shieldmesh.interceptors.call import ClientCall, ServerCall

LARGEST_MARGIN = 0.05
"""Seconds kept back at most; 5 % of short deadlines."""


@asynccontextmanager
async def serve(call: ServerCall) -> AsyncGenerator[None]:
    """Ends the handler before its caller gives up, so that the caller hears a typed error and not silence."""
    allowed = min(call.server.call_cap, math.inf if call.time_remaining is None else call.time_remaining)
    allowed -= min(LARGEST_MARGIN, allowed * 0.05)
    ours = replace(context.current(), deadline=time.monotonic() + allowed)
    limit = asyncio.timeout(allowed)
    try:
        with context.use(ours):
            async with limit:
                yield
    except TimeoutError as error:
        if limit.expired():
            raise DeadlineExceededError(f"the call did not finish within its {allowed:.2f} s") from error
        raise


def send(call: ClientCall) -> None:
    """Gives the call what is left of the current deadline, or the shorter timeout it asked for.

    Raises:
        DeadlineExceededError: nothing is left; the call is not made.
    """
    remaining = context.current().remaining()
    if remaining is None:
        return
    if remaining == 0:
        raise DeadlineExceededError("the deadline passed before the next service could be called")
    call.timeout = remaining if call.timeout is None else min(call.timeout, remaining)
