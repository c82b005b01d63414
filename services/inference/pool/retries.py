"""When a request is sent again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from shieldmesh.budget import RetryBudget
from shieldmesh.errors import MeshError

from .options import Retries

T = TypeVar("T")

_LONGEST_PAUSE: Final = 10.0
_EARLY: Final = 0.01
"""Seconds that a timer may fire before its time: event loops count in milliseconds."""

_log = logging.getLogger("shieldmesh.inference.pool")


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    options: Retries,
    budget: RetryBudget,
    *,
    passing: Callable[[MeshError], bool],
    allowed: Callable[[], bool],
    at_once: Callable[[], bool],
    until: float | None,
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """What `attempt` gives, the first time that it does.

    Args:
        attempt: Sends the request.
        options: How often, and with which pauses.
        budget: What the model has left.
        passing: Whether another attempt may not meet an error.
        allowed: Whether anybody may be asked again at all.
        at_once: Whether there is somebody to ask for whom no pause is needed.
        until: When no retry may begin any more, on the loop's clock; None: never.
        sleep: Waits so many seconds.

    Raises:
        MeshError: what the last attempt raised.
    """
    loop = asyncio.get_running_loop()
    backoff = wait_random_exponential(multiplier=options.pause, max=_LONGEST_PAUSE)

    def worth_it(error: BaseException) -> bool:
        return isinstance(error, MeshError) and passing(error)

    def pause(state: RetryCallState) -> float:
        if at_once():
            return 0.0
        asked = _error(state).retry_after
        return backoff(state) if asked is None else asked

    def enough(state: RetryCallState) -> bool:
        budget.failed()
        late = until is not None and loop.time() + state.upcoming_sleep + _EARLY >= until
        return state.attempt_number >= options.attempts or late or not (budget.allows and allowed())

    def tell(state: RetryCallState) -> None:
        _log.warning("an endpoint of the model failed, another attempt follows: %s", _error(state).reason)

    retrying = AsyncRetrying(
        retry=retry_if_exception(worth_it), wait=pause, stop=enough, sleep=sleep, before_sleep=tell, reraise=True
    )
    async for each in retrying:
        with each:
            result = await attempt()
            budget.succeeded()
            return result
    raise AssertionError  # the last attempt raises


def _error(state: RetryCallState) -> MeshError:
    error = state.outcome and state.outcome.exception()
    assert isinstance(error, MeshError)  # noqa: S101  # nothing else is retried
    return error
