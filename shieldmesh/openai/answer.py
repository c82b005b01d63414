"""One answer as it comes over HTTP: opened, read, and let go, with a client span around it."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import httpx
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from shieldmesh import telemetry
from shieldmesh.errors import Hop, MeshError
from shieldmesh.generation import Finish, FinishReason, Step
from shieldmesh.telemetry import Name

from . import failures
from .chunks import ChunkReader
from .events import EventParser, EventTooLongError
from .gathering import Gathering

PATH: Final = "chat/completions"
_METHOD: Final = "POST"
_STREAM: Final = "text/event-stream"
_LARGEST_REFUSAL: Final = 64 * 1024
_DRAIN_SECONDS: Final = 0.25
"""How long a server may take to end a response after its last word, before the connection is given up."""


class Answer:
    """One HTTP exchange. Errors that it raises have it as the last hop of their path."""

    def __init__(self, client: httpx.AsyncClient, reader: ChunkReader, *, authorization: str = "") -> None:
        """`authorization` is the header's value, where the client has none of its own: keys change."""
        self._client = client
        self._reader = reader
        self._authorization = authorization
        self._events = EventParser()
        self._response: httpx.Response | None = None
        self._received: Gathering | None = None
        self._failure: MeshError | None = None
        self._begun = time.monotonic()
        place = urlsplit(str(client.base_url))
        self._place = place.netloc
        attributes: dict[str, AttributeValue] = {Name.HTTP_METHOD: _METHOD, Name.SERVER_ADDRESS: place.hostname or ""}
        if place.port:
            attributes[Name.SERVER_PORT] = place.port
        self._span = telemetry.tracer().start_span(_METHOD, kind=SpanKind.CLIENT, attributes=attributes)

    async def open(self, body: bytes, connect: float) -> None:
        """Sends the request and checks that what comes is a stream.

        Raises:
            MeshError: the server cannot be reached, or refuses.
        """
        timeout = httpx.Timeout(None, connect=connect)
        wanted = {"accept": _STREAM, "accept-encoding": "identity", "content-type": "application/json"}
        if self._authorization:
            wanted["authorization"] = self._authorization
        try:
            with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
                request = self._client.build_request(_METHOD, PATH, content=body, headers=wanted, timeout=timeout)
                with telemetry.undisturbed():
                    self._response = await self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            raise self.failed(failures.unreachable()) from None
        except httpx.RequestError:
            raise self.failed(failures.truncated()) from None
        self._span.set_attribute(Name.HTTP_STATUS, self._response.status_code)
        self._received = Gathering(self._response.aiter_bytes())
        if self._response.status_code != 200:
            raise self.failed(
                failures.refusal(self._response.status_code, await self._refusal(), self._response.headers)
            )
        if self._response.headers.get("content-type", "").partition(";")[0].strip().lower() != _STREAM:
            raise self.failed(failures.malformed("it did not answer with a stream of events"))

    async def read(self) -> Sequence[Step]:
        """All output that has come since the last read, waiting for some; a Finish at the end.

        Raises:
            MeshError: the server failed, ended too early, or is not understood.
        """
        with suppress(httpx.RequestError):  # the answer may be whole: that decides
            while not self._reader.done and self._failure is None and (received := await self._more()):
                if outputs := self._outputs(received):
                    return outputs
        if self._failure is not None:
            raise self.failed(self._failure)
        return [self.finish()]

    def finish(self) -> Finish:
        """The end.

        Raises:
            MeshError: the server has not said that the answer is whole.
        """
        if self._reader.reason is None and not self._reader.done:
            raise self.failed(failures.truncated())
        return Finish(self._reader.reason or FinishReason.STOP)

    async def drain(self) -> None:
        """Reads what follows the end, usually nothing, for a moment: the connection can be used again then."""
        with suppress(httpx.RequestError, TimeoutError):  # it will not be used again
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await self._more():
                    pass

    async def close(self) -> None:
        """Lets go: a server that is still at work sees the connection close, and stops."""
        try:
            if self._received is not None:
                await self._received.close()
            if self._response is not None:
                await self._response.aclose()
        finally:
            self._span.end()

    def failed(self, error: MeshError) -> MeshError:
        """The error, with this exchange as the place where it happened."""
        telemetry.fail(self._span, error.reason)
        elapsed = time.monotonic() - self._begun
        span = telemetry.span_id(self._span)
        error.seen_by(Hop("openai", f"{_METHOD} {PATH}", self._place, span, elapsed, error.reason))
        return error

    async def _refusal(self) -> bytes:
        """The begin of what the server says about its refusal."""
        body = bytearray()
        with suppress(httpx.RequestError):  # the status says enough
            while len(body) < _LARGEST_REFUSAL and (received := await self._more()):
                body += received
        return bytes(body)

    def _outputs(self, received: bytes) -> list[Step]:
        """The output in what was received; what is wrong behind it is kept for the next read."""
        outputs: list[Step] = []
        try:
            for data in self._events.feed(received):
                outputs += self._reader.read(data)
        except EventTooLongError:
            self._failure = failures.malformed("an event of its answer does not end")
        except MeshError as error:
            self._failure = error
        return outputs

    async def _more(self) -> bytes:
        """What has come, waiting for something; nothing at the end."""
        return b"" if self._received is None else await self._received.take()
