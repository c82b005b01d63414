"""A request in the words of the engine: the body of an OpenAI chat completion, with llama.cpp's extensions. Pure."""

from typing import Final

from services.inference.backend import GenerationRequest
from shieldmesh.openai.chat_completion import Json, chat_completion

from .options import LlamaRequestOptions

_SEEDS: Final = 2**32 - 1
"""llama.cpp's seeds have 32 bits, and the largest one means "random"."""


def engine_request(request: GenerationRequest, options: LlamaRequestOptions) -> Json:
    """The body for `request`.

    It asks for two extensions that exact accounting and prompt cancellation stand on: the number of generated tokens
    with each chunk, and a chunk after each step of reading the prompt.
    """
    body: Json = {"timings_per_token": True, "return_progress": True, **chat_completion(request, seeds=_SEEDS)}
    if options.ignore_eos:
        body["ignore_eos"] = True
    return body
