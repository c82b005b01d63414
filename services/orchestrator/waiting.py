"""Waiting that cancellations do not cut short."""

import asyncio
from typing import Any


async def until_done(work: asyncio.Future[Any]) -> None:  # Any: whatever it gives is left to who asks it
    """Returns when `work` is done, without looking at how; only for what ends soon.

    A turn can be cancelled more than once, by its client, its deadline, and each of its task groups. A cancellation
    that comes meanwhile is raised afterwards.
    """
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
