"""Generating with an OpenAI-compatible server: one streamed HTTP request for each generation."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from pydantic import ValidationError

from services.inference.backend import Finish, GenerationRequest, Step, Usage
from services.inference.options import refused
from shieldmesh import http
from shieldmesh.breakers import Breaker
from shieldmesh.errors import MeshError
from shieldmesh.openai import failures
from shieldmesh.openai.answer import Answer
from shieldmesh.openai.body import server_request
from shieldmesh.openai.chunks import ChunkReader

from .options import OpenAIOptions, OpenAIRequestOptions, Timeouts
from .patience import Patience, StoppedError
from .retries import Budget, with_retries

T = TypeVar("T")

_DRAIN_SECONDS: Final = 0.25
"""How long a server may take to end a response after its last word, before the connection is given up."""

_log = logging.getLogger("shieldmesh.inference.openai")


class OpenAIBackend:
    """One model of one server; see `services.inference.backend.Backend`."""

    def __init__(self, name: str, options: OpenAIOptions) -> None:
        """`name` is what the mesh calls the model."""
        self.options = options
        self.context_window = options.context_window
        self.generated_tokens = 0
        self.budget = Budget(options.retries.budget)
        self.breaker = Breaker(failures=options.circuit.failures, pause=options.circuit.pause, tell=self._tell)
        self._name = name

    def generate(self, request: GenerationRequest) -> "OpenAIGeneration":
        """See `Backend.generate`."""
        try:
            OpenAIRequestOptions.model_validate(dict(request.options))
        except ValidationError as error:
            raise refused(error, OpenAIRequestOptions) from None
        return OpenAIGeneration(self, server_request(request, self.options))

    def answer(self, reader: ChunkReader) -> Answer:
        """A new exchange with the server, over the running loop's client."""
        key = self.options.api_key
        authorization = "" if key is None else f"Bearer {key.get_secret_value()}"
        # As many connections as generations: their number is the admission's business.
        client = http.get(
            self.options.url, authorization=authorization, traced=self.options.traceparent, connections=None
        )
        return Answer(client, reader)

    async def close(self) -> None:
        """See `Backend.close`; the client belongs to the loop."""

    def _tell(self, is_open: bool) -> None:
        if is_open:
            seconds = self.options.circuit.pause
            _log.error("the server of the model %s failed too often and is left alone for %g s", self._name, seconds)
        else:
            _log.info("the server of the model %s answers again", self._name)


class OpenAIGeneration:
    """One generation; see `services.inference.backend.Generation`."""

    def __init__(self, backend: OpenAIBackend, body: bytes) -> None:
        self._backend = backend
        self._body = body
        self._reader = ChunkReader()
        self._patience = Patience()

    @property
    def usage(self) -> Usage:
        """See `Generation.usage`."""
        return self._reader.usage

    async def batches(self) -> AsyncGenerator[Sequence[Step], None]:
        """See `Generation.batches`."""
        limits = self._backend.options.timeouts
        with suppress(StoppedError):
            answer, batch = await self._begin(limits)
            try:
                while not isinstance(batch[-1], Finish):
                    yield batch
                    until = asyncio.get_running_loop().time() + limits.between_tokens
                    batch = await self._read(answer, until, "the next token", limits.between_tokens)
                self._backend.breaker.succeeded()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_DRAIN_SECONDS):
                        await answer.drain()
                yield batch
            except MeshError as error:
                self._judge(error)
                raise
            finally:
                await answer.close()

    def stop(self) -> None:
        """See `Generation.stop`."""
        self._patience.stop()

    async def _begin(self, limits: Timeouts) -> tuple[Answer, Sequence[Step]]:
        """The answer and the first of it, sending the request again where that may help."""
        backend = self._backend
        until = asyncio.get_running_loop().time() + limits.first_token

        async def attempt() -> tuple[Answer, Sequence[Step]]:
            with backend.breaker.attempt():
                return await self._attempt(limits, until)

        async def sleep(seconds: float) -> None:
            await self._patience.wait(asyncio.sleep(seconds), until)

        return await with_retries(
            attempt,
            backend.options.retries,
            backend.budget,
            allowed=lambda: not backend.breaker.is_open,
            until=until,
            sleep=sleep,
        )

    async def _attempt(self, limits: Timeouts, until: float) -> tuple[Answer, Sequence[Step]]:
        self._reader = ChunkReader()
        answer = self._backend.answer(self._reader)
        try:
            await self._open(answer, until, limits)
            batch = await self._read(answer, until, "its first token", limits.first_token)
        except BaseException as error:
            if isinstance(error, MeshError):
                self._judge(error)
            await answer.close()
            raise
        self._backend.breaker.answered()
        return answer, batch

    async def _open(self, answer: Answer, until: float, limits: Timeouts) -> None:
        try:
            await self._patience.wait(answer.open(self._body, limits.connect), until)
        except TimeoutError:
            raise answer.failed(failures.timeout("its first token", limits.first_token)) from None

    async def _read(self, answer: Answer, until: float, what: str, seconds: float) -> Sequence[Step]:
        before = self.usage.completion
        try:
            return await self._patience.wait(answer.read(), until)
        except TimeoutError:
            if self._reader.reason is not None:
                return [answer.finish()]
            raise answer.failed(failures.timeout(what, seconds)) from None
        finally:
            self._backend.generated_tokens += max(0, self.usage.completion - before)

    def _judge(self, error: MeshError) -> None:
        """Remembers what an error says of the server."""
        if error.reason in failures.BLAMED:
            self._backend.breaker.failed()
        else:
            self._backend.breaker.succeeded()
