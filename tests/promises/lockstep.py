"""Parts of a mesh that keep step with each other, or break."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal

from services.inference.backend import Finish, FinishReason, GenerationRequest, Output, Step, Usage
from services.shield.catalogue import Catalogue
from services.shield.servicer import ShieldServicer
from services.shield.shield import Progress, Rules, Shield
from shieldmesh.v1 import policy_pb2

from .fakes import shields
from .mesh import OpenService


class Lockstep:
    """An engine whose generations take each step together; each ends when it may."""

    def __init__(self) -> None:
        self.context_window = self.generated_tokens = 0
        self.steps = asyncio.Barrier(2)
        self.may_end = {"first": asyncio.Event(), "second": asyncio.Event()}

    def generate(self, request: GenerationRequest) -> "InStep":
        return InStep(self, request.messages[-1].text)

    async def close(self) -> None: ...


class InStep:
    def __init__(self, engine: Lockstep, name: str) -> None:
        self._engine, self._name = engine, name

    @property
    def usage(self) -> Usage:
        return Usage(prompt=1, completion=3)

    async def batches(self) -> AsyncGenerator[Sequence[Step]]:
        for piece in (" one", " two", " three"):
            await self._engine.steps.wait()
            yield [Output(text=piece, token_count=1)]
        await self._engine.may_end[self._name].wait()
        yield [Finish(FinishReason.STOP)]

    def stop(self) -> None: ...


class MeetingCatalogue(Catalogue):
    """Gives nobody shields before so many calls want some: then they all inspect at the same time."""

    def __init__(self, calls_together: int) -> None:
        super().__init__(capacity=64, default_timeout=5.0)
        self._together = asyncio.Barrier(calls_together)

    async def shields(self, specs: Sequence[policy_pb2.ShieldSpec], field: str = "shields") -> tuple[Shield, ...]:
        await self._together.wait()
        return await super().shields(specs, field)


class BreakingCatalogue(Catalogue):
    """A shield called "broken" is."""

    def __init__(self) -> None:
        super().__init__(capacity=64, default_timeout=5.0)

    async def shields(self, specs: Sequence[policy_pb2.ShieldSpec], field: str = "shields") -> tuple[Shield, ...]:
        built = await super().shields(specs, field)
        return tuple(Broken(shield.rules) if shield.rules.name == "broken" else shield for shield in built)


@dataclass(frozen=True, slots=True)
class Broken:
    rules: Rules
    kind: Literal["match", "window", "whole"] = "match"

    def lane(self) -> "Broken":
        return self

    def feed(self, text: str, *, end: bool) -> Progress:
        raise ValueError(f"cannot look at {text!r}, end={end}")


def shield_service(catalogue: Catalogue) -> OpenService:
    return shields(ShieldServicer(catalogue, max_characters=1_000))
