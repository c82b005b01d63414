"""A request in the words of an OpenAI-compatible server, and in those alone that it is said to know. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from services.inference.backend import GenerationRequest
from services.inference.chat_completion import Json, chat_completion
from shieldmesh.errors import InvalidArgumentError

from .options import Dialect, OpenAIOptions


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What a server knows beside the documented API.

    Attributes:
        top_k: Sampling by rank.
        seeds: How many seeds there are.
        exact: What makes each chunk tell the tokens generated so far.
    """

    top_k: bool
    seeds: int
    exact: Mapping[str, Any]


_DIALECTS: Final[Mapping[Dialect, _Dialect]] = MappingProxyType(
    {
        "openai": _Dialect(top_k=False, seeds=2**63, exact={}),
        "vllm": _Dialect(
            top_k=True,
            seeds=2**63,
            exact={"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
        # Its seeds have 32 bits, and the largest one means "random".
        "llama-server": _Dialect(
            top_k=True, seeds=2**32 - 1, exact={"timings_per_token": True, "return_progress": True}
        ),
    }
)


def server_request(request: GenerationRequest, options: OpenAIOptions) -> bytes:
    """The body for `request`, as JSON.

    Raises:
        InvalidArgumentError: the server is not said to know what the request asks.
    """
    dialect = _DIALECTS[options.dialect]
    if request.tools and not options.tools:
        raise InvalidArgumentError("this model is given no tools: send none", field="tools")
    if request.sampling.top_k is not None and not dialect.top_k:
        raise InvalidArgumentError(
            "the server of this model is not said to know top_k: leave it out", field="sampling.top_k"
        )
    body: Json = {
        "model": options.model,
        **chat_completion(request, seeds=dialect.seeds, max_tokens=options.max_tokens_field),
        **dialect.exact,
        **options.extra,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
