"""DiagnosticsService, the same in every service of the mesh."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing
from typing import Any, TypeAlias, cast

import grpc
from opentelemetry import trace
from opentelemetry.context import Context

from shieldmesh import context, errors, telemetry
from shieldmesh.context import ID_PATTERN
from shieldmesh.diagnostics.downstream import Downstream
from shieldmesh.diagnostics.memory import SpanMemory
from shieldmesh.diagnostics.probes import ProbeLog
from shieldmesh.diagnostics.translation import to_proto
from shieldmesh.errors import InvalidArgumentError, NotFoundError
from shieldmesh.interceptors import session
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.v1 import diagnostics_pb2, diagnostics_pb2_grpc

SERVICE = diagnostics_pb2.DESCRIPTOR.services_by_name["DiagnosticsService"]

# Requests and responses differ per method, and nothing here reads them off the context.
ServicerContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def add_diagnostics(
    server: grpc.aio.Server, identity: ServerIdentity, memory: SpanMemory, targets: Mapping[str, str]
) -> str:
    """Serves DiagnosticsService for this service and, by asking on, for those at `targets`; its full name."""
    servicer = DiagnosticsServicer(identity, memory, Downstream(identity.service, targets))
    diagnostics_pb2_grpc.add_DiagnosticsServiceServicer_to_server(servicer, server)
    return SERVICE.full_name


class DiagnosticsServicer(diagnostics_pb2_grpc.DiagnosticsServiceServicer):
    """See `shieldmesh.v1.DiagnosticsService`."""

    def __init__(self, identity: ServerIdentity, memory: SpanMemory, downstream: Downstream) -> None:
        self._identity = identity
        self._memory = memory
        self._downstream = downstream
        self._probes = ProbeLog()

    async def GetTrace(  # noqa: N802  # the contract's name
        self, request: diagnostics_pb2.GetTraceRequest, context: object
    ) -> diagnostics_pb2.GetTraceResponse:
        """See `shieldmesh.v1.DiagnosticsService.GetTrace`."""
        del context
        _check_id(request.turn_id, "turn_id")
        ours = self._memory.recall(request.turn_id)
        merged = diagnostics_pb2.GetTraceResponse(spans=map(to_proto, ours.spans), forgotten=ours.forgotten)
        for theirs in await self._downstream.traces(request):
            merged.spans.extend(theirs.spans)
            merged.forgotten += theirs.forgotten
        if not merged.spans:
            raise NotFoundError(
                "nobody remembers a span of this turn: each service keeps those of its last turns since it started, of "
                "several replicas only one is asked, and a turn that is not sampled has none",
                reason="TURN_NOT_FOUND",
                field="turn_id",
            )
        merged.spans.sort(key=lambda span: span.start.ToNanoseconds())
        return merged

    async def Probe(  # noqa: N802  # the contract's name
        self, request: diagnostics_pb2.ProbeRequest, context: ServicerContext
    ) -> AsyncGenerator[diagnostics_pb2.ProbeEvent]:
        """See `shieldmesh.v1.DiagnosticsService.Probe`."""
        _check_id(request.probe_id, "probe_id")
        with ExitStack() as held:
            if request.hold:
                held.enter_context(self._probes.holding(request.probe_id, _deadline()))
            yield self._seen(context)
            async with aclosing(self._downstream.probe(request)) as events:
                async for event in events:
                    yield event
            if request.hold:
                await asyncio.Event().wait()

    async def GetProbe(  # noqa: N802  # the contract's name
        self, request: diagnostics_pb2.GetProbeRequest, context: object
    ) -> diagnostics_pb2.GetProbeResponse:
        """See `shieldmesh.v1.DiagnosticsService.GetProbe`."""
        del context
        _check_id(request.probe_id, "probe_id")
        merged = diagnostics_pb2.GetProbeResponse()
        reason = self._probes.ending(request.probe_id)
        if reason is not None:
            merged.endings.add(service=self._identity.service, instance=self._identity.instance, reason=reason)
        for theirs in await self._downstream.endings(request):
            merged.endings.extend(theirs.endings)
        return merged

    def _seen(self, call: ServicerContext) -> diagnostics_pb2.ProbeEvent:
        ours = context.current()
        # The context always has a deadline, if need be the service's own: only the call knows what the caller gave.
        remaining = cast("float | None", call.time_remaining())  # None without a deadline, which its types do not say
        return diagnostics_pb2.ProbeEvent(
            service=self._identity.service,
            instance=self._identity.instance,
            session_id=ours.session_id,
            request_id=ours.request_id,
            trace_id=telemetry.trace_id(),
            remaining=None if remaining is None else errors.duration(remaining),
            metadata=_said(call),
        )


def _said(call: ServicerContext) -> diagnostics_pb2.ProbeMetadata:
    """What the call's metadata says, before any interceptor has made something of it."""
    said = {key: value for key, value in call.invocation_metadata() or () if isinstance(value, str)}
    span = trace.get_current_span(telemetry.PROPAGATOR.extract(said, Context())).get_span_context()
    return diagnostics_pb2.ProbeMetadata(
        session_id=said.get(session.SESSION, ""),
        request_id=said.get(session.REQUEST, ""),
        trace_id=trace.format_trace_id(span.trace_id) if span.is_valid else "",
    )


def _deadline() -> float | None:
    return context.current().deadline


def _check_id(value: str, field: str) -> None:
    if not ID_PATTERN.fullmatch(value):
        raise InvalidArgumentError(f"{field}: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -", field=field)
