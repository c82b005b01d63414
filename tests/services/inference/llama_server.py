"""`python -m` of this is an OpenAI-compatible server: the HTTP server inside xllamacpp, with SmolLM2. It says where."""

import importlib
import signal
from typing import Any

from services.inference.llamacpp.weights import find

KEY = "a-key-for-tests"
CONTEXT_WINDOW = 512
SLOTS = 2


def main() -> None:
    """Serves until its parent ends it."""
    llama: Any = importlib.import_module("xllamacpp")  # Any: it ships no types
    params = llama.CommonParams()
    params.model.path = str(find(None))
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT_WINDOW
    params.n_batch = params.n_ubatch = 16
    params.cpuparams.n_threads = 1
    params.fit_params = False
    params.verbosity = 0
    params.cache_ram_mib = 0
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [KEY]
    params.endpoint_metrics = True
    params.ui = False
    server = llama.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201  # the parent reads it
    signal.pause()


if __name__ == "__main__":
    main()
