"""The services behind this one, asked for what they know."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final, TypeAlias, TypeVar

from shieldmesh import calls, channels, context
from shieldmesh.errors import MeshError
from shieldmesh.v1 import diagnostics_pb2, diagnostics_pb2_grpc

A = TypeVar("A")

Stub: TypeAlias = "diagnostics_pb2_grpc.DiagnosticsServiceAsyncStub"  # exists for type checkers alone

PATIENCE: Final = 2.0
"""Seconds that a service has to answer; less when the caller has less than twice that."""

_AHEAD: Final = 64
"""Events of services behind that may wait until the caller has taken those before."""


class Downstream:
    """The services that one service calls.

    Args:
        service: Whose callees they are.
        targets: Where they are, in gRPC's notation, by name.
    """

    def __init__(self, service: str, targets: Mapping[str, str]) -> None:
        self._service = service
        self._targets = targets

    async def traces(self, request: diagnostics_pb2.GetTraceRequest) -> list[diagnostics_pb2.GetTraceResponse]:
        """What the services that can be reached remember of a turn."""
        return await self._ask(lambda stub, patience: calls.unary(stub.GetTrace, request, timeout=patience))

    async def endings(self, request: diagnostics_pb2.GetProbeRequest) -> list[diagnostics_pb2.GetProbeResponse]:
        """How a held probe ended at the services that can be reached."""
        return await self._ask(lambda stub, patience: calls.unary(stub.GetProbe, request, timeout=patience))

    async def probe(self, request: diagnostics_pb2.ProbeRequest) -> AsyncGenerator[diagnostics_pb2.ProbeEvent]:
        """The events of all services behind, as they come, each caller's before its callees'.

        A service that does not answer is one event with an error. A held probe's events end with the last of the calls.
        """
        events: asyncio.Queue[diagnostics_pb2.ProbeEvent | None] = asyncio.Queue(_AHEAD)
        # No TaskGroup: around a yield it would make a group of the GeneratorExit that closes this generator.
        tasks = [asyncio.create_task(self._pump(name, request, events)) for name in self._targets]
        try:
            running = len(tasks)
            while running:
                event = await events.get()
                if event is None:
                    running -= 1
                else:
                    yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(
        self,
        name: str,
        request: diagnostics_pb2.ProbeRequest,
        events: "asyncio.Queue[diagnostics_pb2.ProbeEvent | None]",
    ) -> None:
        """Puts one service's events, then None."""
        answered = False
        reason = "NO_ANSWER"
        try:
            async with asyncio.timeout(_patience()) as limit, calls.stream(self._stub(name).Probe, request) as stream:
                async for event in stream:
                    answered = True
                    limit.reschedule(None)  # the call has its own deadline; only the first answer is waited for here
                    event.caller = event.caller or self._service
                    await events.put(event)
        except MeshError as error:
            reason = error.reason
        except TimeoutError:
            pass
        if not answered:
            await events.put(diagnostics_pb2.ProbeEvent(service=name, caller=self._service, error=reason))
        await events.put(None)

    async def _ask(self, ask: Callable[["Stub", float], Awaitable[A]]) -> list[A]:
        """The answers of those who gave one in time."""
        patience = _patience()

        async def answer(name: str) -> A | None:
            try:
                return await ask(self._stub(name), patience)
            except MeshError:
                return None

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(name)) for name in self._targets]
        return [result for task in tasks if (result := task.result()) is not None]

    def _stub(self, name: str) -> "Stub":
        return diagnostics_pb2_grpc.DiagnosticsServiceStub(channels.get(self._targets[name]))


def _patience() -> float:
    """Half of what is left: the answers of the others must still reach the caller when one service is silent."""
    remaining = context.current().remaining()
    return PATIENCE if remaining is None else min(PATIENCE, remaining / 2)
