"""Generating with a model of several endpoints, or of one: attempts until one answers, and then its answer."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from opentelemetry import trace

from services.inference.backend import Finish, Generation, Step, Usage
from services.inference.patience import Patience, StoppedError
from shieldmesh import context
from shieldmesh.budget import RetryBudget
from shieldmesh.errors import MeshError
from shieldmesh.telemetry import Name

from .members import Endpoint, Member, Members
from .options import Circuit, Retries
from .retries import with_retries

Q = TypeVar("Q")
Answer = tuple[Member[Q], AsyncGenerator[Sequence[Step], None], Sequence[Step] | None]
"""Who answers, what comes, and the first of it; None when nobody wants it any more."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How the endpoints of a model are dealt with."""

    retries: Retries
    circuit: Circuit
    passing: Callable[[MeshError], bool]
    """Whether another attempt may not meet this error."""
    blamed: Callable[[MeshError], bool]
    """Whether this error says that something is wrong with the endpoint, not with one request."""
    first_token: float | None = None
    """Seconds until the first token, with all attempts."""
    attempt: float | None = None
    """Of these, what one endpoint may take while there is another to ask."""


class PooledBackend(Generic[Q]):
    """One model at all of its endpoints; most of a `services.inference.backend.Backend`."""

    def __init__(self, name: str, endpoints: Sequence[Endpoint[Q]], rules: Rules) -> None:
        """`name` is what the mesh calls the model."""
        self.members = Members([Member(name, endpoint, rules.circuit) for endpoint in endpoints])
        self.rules = rules
        self.budget = RetryBudget(rules.retries.budget)

    @property
    def generated_tokens(self) -> int:
        """See `Backend.generated_tokens`."""
        return sum(member.endpoint.generated_tokens for member in self.members.all)

    async def close(self) -> None:
        """See `Backend.close`; the clients of the endpoints belong to the loop."""

    def ask(self, question: Q) -> "PooledGeneration[Q]":
        """The generation that answers `question`, for the session of the current context."""
        ours = context.current()
        # Tenants choose their own names for sessions: one alone says nothing.
        session = f"{ours.tenant_id}/{ours.session_id}" if ours.session_id else ""
        return PooledGeneration(self, question, session)


class PooledGeneration(Generic[Q]):
    """One generation; see `services.inference.backend.Generation`."""

    def __init__(self, pool: PooledBackend[Q], question: Q, session: str) -> None:
        self._pool = pool
        self._question = question
        self._session = session
        self._tried: set[str] = set()
        self._attempt: Generation | None = None
        self._spent = Usage()
        self._patience = Patience()

    @property
    def usage(self) -> Usage:
        """See `Generation.usage`; what attempts cost that failed is part of it."""
        now = Usage() if self._attempt is None else self._attempt.usage
        spent = self._spent
        return Usage(spent.prompt + now.prompt, spent.cached + now.cached, spent.completion + now.completion)

    async def batches(self) -> AsyncGenerator[Sequence[Step], None]:
        """See `Generation.batches`."""
        async with AsyncExitStack() as stack:
            with suppress(StoppedError):
                member, batches, batch = await self._begin(stack)
                while batch is not None:
                    if isinstance(batch[-1], Finish):
                        member.breaker.succeeded()
                    yield batch
                    batch = await self._next(member, batches)

    def stop(self) -> None:
        """See `Generation.stop`."""
        self._patience.stop()
        if self._attempt is not None:
            self._attempt.stop()

    async def _begin(self, stack: AsyncExitStack) -> Answer[Q]:
        """The answer of the first endpoint that gives one; `stack` lets it go."""
        pool, rules = self._pool, self._pool.rules
        loop = asyncio.get_running_loop()
        until = None if rules.first_token is None else loop.time() + rules.first_token

        async def attempt() -> Answer[Q]:
            self._patience.check()
            member = pool.members.choose(self._session, self._tried)
            self._tried.add(member.endpoint.name)
            return await self._ask(stack, member, None if until is None else until - loop.time())

        async def sleep(seconds: float) -> None:
            await self._patience.wait(asyncio.sleep(seconds), until)

        return await with_retries(
            attempt,
            rules.retries,
            pool.budget,
            passing=rules.passing,
            allowed=lambda: pool.members.any_able,
            at_once=lambda: pool.members.has_other(self._tried),
            until=until,
            sleep=sleep,
        )

    async def _ask(self, stack: AsyncExitStack, member: Member[Q], left: float | None) -> Answer[Q]:
        """One attempt at one endpoint, which has so many seconds `left`."""
        longest = self._pool.rules.attempt
        if left is not None and longest is not None and self._pool.members.has_other(self._tried):
            left = min(left, longest)
        trace.get_current_span().set_attribute(Name.ENDPOINT, member.endpoint.name)
        async with AsyncExitStack() as failing:
            with member.breaker.attempt():
                self._spent, self._attempt = self.usage, member.endpoint.attempt(self._question, left)
                failing.enter_context(member.busy())
                batches = await failing.enter_async_context(aclosing(self._attempt.batches()))
                first = await self._next(member, batches)
                if first is not None:
                    member.breaker.answered()
            await stack.enter_async_context(failing.pop_all())
        return member, batches, first

    async def _next(self, member: Member[Q], batches: AsyncGenerator[Sequence[Step], None]) -> Sequence[Step] | None:
        try:
            return await anext(batches, None)
        except MeshError as error:
            if self._pool.rules.blamed(error):
                member.breaker.failed()
            else:
                member.breaker.succeeded()
            raise
