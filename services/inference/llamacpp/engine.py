"""The one place that touches xllamacpp: opening an engine that is quiet, bounded, and reachable from nowhere else."""

import importlib
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from .options import LlamaOptions

Chunk = Mapping[str, Any]  # parsed JSON of the engine
Callback = Callable[[Chunk | list[Chunk]], bool]
"""Takes what the engine has to say; True stops the generation. Must not raise: C++ is below it."""


class Engine(Protocol):
    """What is used of `xllamacpp.Server`. Dropping the last reference frees it."""

    def handle_chat_completions(self, body: Mapping[str, object], callback: Callback, /) -> None:
        """Blocks, without the GIL, until the generation has ended or the callback has stopped it."""
        ...

    def handle_metrics(self) -> str:
        """The engine's own counters in the Prometheus text format."""
        ...


def load(weights: Path, options: LlamaOptions, slots: int, directory: Path) -> Engine:
    """A loaded engine with `slots` generations side by side. Blocks for as long as loading takes.

    `directory` gets the engine's own HTTP socket and must be this user's alone: xllamacpp always opens one, by default
    a TCP port without authentication.

    Raises:
        RuntimeError: llama.cpp cannot load the file.
        ImportError: llama.cpp itself cannot be loaded; the message says what to install.
    """
    try:
        llama: Any = importlib.import_module("xllamacpp")  # Any: it ships no types
    except ImportError as error:
        raise ImportError(f"llama.cpp cannot be loaded ({error}): install OpenMP (Debian: libgomp1)") from error
    params = llama.CommonParams()
    params.model.path = str(weights)
    params.n_parallel = slots
    params.n_ctx = slots * options.context_window
    params.n_batch = params.n_ubatch = options.prompt_batch
    params.cpuparams.n_threads = options.threads or max(1, len(os.sched_getaffinity(0)) - 1)
    params.fit_params = False
    # Its log goes to stderr past ours and can quote prompts: nothing but what we write ourselves.
    params.verbosity = 0
    # By default finished prompts gather in up to 8 GiB of memory.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.hostnames = [str(directory / "engine.sock")]
    params.api_keys = [secrets.token_urlsafe(32)]
    params.endpoint_slots = False
    params.endpoint_metrics = True
    params.ui = False
    return cast("Engine", llama.Server(params))
