"""Generating with OpenAI-compatible servers: one streamed HTTP request for each attempt."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from pydantic import ValidationError

from services.inference.backend import Finish, Generation, GenerationRequest, Step, Usage
from services.inference.options import refused
from services.inference.patience import Patience, StoppedError
from services.inference.pool.backend import PooledBackend, Rules
from shieldmesh import http
from shieldmesh.errors import MeshError
from shieldmesh.openai import failures
from shieldmesh.openai.answer import Answer
from shieldmesh.openai.body import server_request
from shieldmesh.openai.chunks import ChunkReader

from .options import OpenAIOptions, OpenAIRequestOptions


class OpenAIBackend(PooledBackend[bytes]):
    """One model at one server or several; see `services.inference.backend.Backend`."""

    def __init__(self, name: str, options: OpenAIOptions) -> None:
        """`name` is what the mesh calls the model."""
        self.options = options
        self.context_window = options.context_window
        rules = Rules(
            retries=options.retries,
            circuit=options.circuit,
            passing=_passing,
            blamed=_blamed,
            first_token=options.timeouts.first_token,
            attempt=options.timeouts.attempt,
        )
        super().__init__(name, [OpenAIEndpoint(url, options) for url in options.endpoints], rules)

    def generate(self, request: GenerationRequest) -> Generation:
        """See `Backend.generate`."""
        try:
            OpenAIRequestOptions.model_validate(dict(request.options))
        except ValidationError as error:
            raise refused(error, OpenAIRequestOptions) from None
        return self.ask(server_request(request, self.options))


class OpenAIEndpoint:
    """One server; see `services.inference.pool.members.Endpoint`."""

    def __init__(self, url: str, options: OpenAIOptions) -> None:
        self.options = options
        self.generated_tokens = 0
        self._url = url

    @property
    def name(self) -> str:
        """See `Endpoint.name`."""
        return urlsplit(self._url).netloc

    def attempt(self, question: bytes, within: float | None) -> "OpenAIGeneration":
        """See `Endpoint.attempt`."""
        return OpenAIGeneration(self, question, self.options.timeouts.first_token if within is None else within)

    def answer(self, reader: ChunkReader) -> Answer:
        """A new exchange with the server, over the running loop's client."""
        # As many connections as generations: their number is the admission's business.
        client = http.get(self._url, traced=self.options.traceparent, connections=None)
        key = self.options.api_key
        return Answer(client, reader, authorization="" if key is None else f"Bearer {key.now()}")


class OpenAIGeneration:
    """One attempt; see `services.inference.backend.Generation`."""

    def __init__(self, endpoint: OpenAIEndpoint, body: bytes, within: float) -> None:
        self._endpoint = endpoint
        self._body = body
        self._within = within
        self._reader = ChunkReader()
        self._patience = Patience()

    @property
    def usage(self) -> Usage:
        """See `Generation.usage`."""
        return self._reader.usage

    async def batches(self) -> AsyncGenerator[Sequence[Step], None]:
        """See `Generation.batches`."""
        gap = self._endpoint.options.timeouts.between_tokens
        loop = asyncio.get_running_loop()
        until = loop.time() + self._within
        answer = self._endpoint.answer(self._reader)
        try:
            with suppress(StoppedError):
                await self._open(answer, until)
                batch = await self._read(answer, until, "its first token", self._within)
                while not isinstance(batch[-1], Finish):
                    yield batch
                    batch = await self._read(answer, loop.time() + gap, "the next token", gap)
                await answer.drain()
                yield batch
        finally:
            await answer.close()

    def stop(self) -> None:
        """See `Generation.stop`."""
        self._patience.stop()

    async def _open(self, answer: Answer, until: float) -> None:
        connect = self._endpoint.options.timeouts.connect
        try:
            await self._patience.wait(answer.open(self._body, connect), until)
        except TimeoutError:
            raise answer.failed(failures.timeout("its first token", self._within)) from None

    async def _read(self, answer: Answer, until: float, what: str, seconds: float) -> Sequence[Step]:
        before = self.usage.completion
        try:
            return await self._patience.wait(answer.read(), until)
        except TimeoutError:
            if self._reader.reason is not None:
                return [answer.finish()]
            raise answer.failed(failures.timeout(what, seconds)) from None
        finally:
            self._endpoint.generated_tokens += max(0, self.usage.completion - before)


def _passing(error: MeshError) -> bool:
    return error.reason in failures.PASSING


def _blamed(error: MeshError) -> bool:
    return error.reason in failures.BLAMED
