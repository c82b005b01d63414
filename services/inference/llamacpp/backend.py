"""Generating with llama.cpp: each generation blocks one thread of a bounded pool, and the loop reads its mailbox."""

import asyncio
import logging
import tempfile
import threading
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from services.inference.backend import GenerationRequest, Step, Usage
from services.inference.options import refused
from shieldmesh import context
from shieldmesh.errors import InternalError, InvalidArgumentError, MeshError
from shieldmesh.openai.chat_completion import Json

from . import engine, weights
from .body import engine_request
from .chunks import ChunkReader
from .mailbox import Mailbox
from .options import LlamaOptions, LlamaRequestOptions

_log = logging.getLogger("shieldmesh.inference.llamacpp")


class LlamaBackend:
    """One loaded model; see `services.inference.backend.Backend`.

    Attributes:
        running: Threads inside the engine.
    """

    def __init__(
        self,
        loaded: engine.Engine,
        options: LlamaOptions,
        threads: ThreadPoolExecutor,
        directory: tempfile.TemporaryDirectory[str],
    ) -> None:
        self._engine: engine.Engine | None = loaded
        self._options = options
        self._threads = threads
        self._directory = directory
        self.context_window = options.context_window
        self._counting = threading.Lock()
        self.generated_tokens = 0
        self.running = 0

    @classmethod
    async def open(cls, options: LlamaOptions, max_running: int) -> "LlamaBackend":
        """The model, loaded, for `max_running` generations side by side.

        Raises:
            FileNotFoundError: there is no model file.
            RuntimeError: llama.cpp cannot load it.
            ImportError: llama.cpp itself cannot be loaded.
        """
        path = weights.find(options.path)
        directory = tempfile.TemporaryDirectory(prefix="shieldmesh-")
        try:
            loaded = await context.run_in_thread(engine.load, path, options, max_running, Path(directory.name))
        except ImportError:
            directory.cleanup()
            raise
        except RuntimeError:
            directory.cleanup()
            raise RuntimeError(f"llama.cpp cannot load {path}: a GGUF file of a text model is expected") from None
        return cls(loaded, options, ThreadPoolExecutor(max_running, thread_name_prefix="llamacpp"), directory)

    @property
    def engine(self) -> engine.Engine:
        """The engine, for its own counters.

        Raises:
            InternalError: the backend is closed.
        """
        if self._engine is None:
            raise InternalError("the model is closed", reason="ENGINE_FAILED")
        return self._engine

    def generate(self, request: GenerationRequest) -> "LlamaGeneration":
        """See `Backend.generate`."""
        if request.tools and not self._options.tools:
            raise InvalidArgumentError("this model's chat template knows no tools: send none", field="tools")
        try:
            options = LlamaRequestOptions.model_validate(dict(request.options))
        except ValidationError as error:
            raise refused(error, LlamaRequestOptions) from None
        return LlamaGeneration(self, engine_request(request, options), self._threads)

    def count(self, *, tokens: int = 0, running: int = 0) -> None:
        """Adds to the counters; called in the threads of the generations."""
        with self._counting:
            self.generated_tokens += tokens
            self.running += running

    async def close(self) -> None:
        """See `Backend.close`."""
        await context.run_in_thread(self._release)

    def _release(self) -> None:
        self._threads.shutdown()
        self._engine = None
        self._directory.cleanup()


class LlamaGeneration:
    """One generation; see `services.inference.backend.Generation`."""

    def __init__(self, backend: LlamaBackend, body: Json, threads: ThreadPoolExecutor) -> None:
        self._backend = backend
        self._body = body
        self._threads = threads
        self._reader = ChunkReader()
        self._failure: MeshError | None = None
        self._stopped = False

    @property
    def usage(self) -> Usage:
        """See `Generation.usage`: what the engine handed over.

        Told to stop, it is mostly at work on the next token, and throws that one away. Its own counter has it,
        but not whose it was, so it is in no account.
        """
        return self._reader.usage

    async def batches(self) -> AsyncGenerator[Sequence[Step], None]:
        """See `Generation.batches`."""
        mailbox = Mailbox[Step]()
        work = context.bind(lambda: self._run(mailbox))
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            while batch := await mailbox.take():
                yield batch
        finally:
            mailbox.close()
            await _left(running)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """See `Generation.stop`. The engine asks between two tokens, and between two parts of the prompt."""
        self._stopped = True

    def _run(self, mailbox: Mailbox[Step]) -> None:
        """The thread's part: stays in the engine until it is done or the mailbox is closed."""
        self._backend.count(running=1)
        try:
            if not (mailbox.closed or self._stopped):
                self._backend.engine.handle_chat_completions(self._body, lambda said: self._take(said, mailbox))
        except ValueError as error:
            # What llama.cpp calls an invalid argument, found before it starts.
            self._failure = self._refusal(error)
        except Exception as error:  # noqa: BLE001  # a foreign library: whatever it raises is its failure
            self._failure = _unexpected(error)
        finally:
            self._backend.count(running=-1)
            mailbox.end()

    def _take(self, said: engine.Chunk | list[engine.Chunk], mailbox: Mailbox[Step]) -> bool:
        """The engine's callback: True stops it. Nothing may be raised into C++."""
        before = self._reader.usage.completion
        try:
            for chunk in said if isinstance(said, list) else [said]:
                for step in self._reader.read(chunk):
                    mailbox.put(step)
        except MeshError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001  # see above: nothing may be raised into C++
            self._failure = _unexpected(error)
        self._backend.count(tokens=self._reader.usage.completion - before)
        return mailbox.closed or self._stopped or self._failure is not None

    def _refusal(self, error: Exception) -> MeshError:
        if "response_format" not in self._body:
            return _unexpected(error)
        return InvalidArgumentError(
            "the engine cannot follow this JSON Schema: use a plainer one", field="response_format.json_schema"
        )


def _unexpected(error: Exception) -> MeshError:
    # The text of the error can quote the request: its type alone is logged.
    _log.error("llama.cpp failed: %s", type(error).__name__)
    return InternalError("the engine failed; the log of the inference service says more", reason="ENGINE_FAILED")


async def _left(running: asyncio.Future[None]) -> None:
    """Waits until the thread has left the engine, also when it is cancelled meanwhile: then it says so afterwards."""
    cancelled = False
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
