"""A request in the words of an OpenAI-compatible server, and in those alone that it is said to know. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.generation import GenerationRequest

from .chat_completion import Json, chat_completion

Dialect = Literal["openai", "vllm", "llama-server"]


class Server(Protocol):
    """What must be known of a server to ask it; `services.inference.openai.options` says what each means."""

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def dialect(self) -> Dialect: ...  # noqa: D102
    @property
    def max_tokens_field(self) -> str: ...  # noqa: D102
    @property
    def tools(self) -> bool: ...  # noqa: D102
    @property
    def extra(self) -> Mapping[str, Any]: ...  # noqa: D102


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


def server_request(request: GenerationRequest, server: Server) -> bytes:
    """The body for `request`, as JSON.

    Raises:
        InvalidArgumentError: the server is not said to know what the request asks.
    """
    dialect = _DIALECTS[server.dialect]
    if request.tools and not server.tools:
        raise InvalidArgumentError("this model is given no tools: send none", field="tools")
    if request.sampling.top_k is not None and not dialect.top_k:
        raise InvalidArgumentError(
            "the server of this model is not said to know top_k: leave it out", field="sampling.top_k"
        )
    body: Json = {
        "model": server.model,
        **chat_completion(request, seeds=dialect.seeds, max_tokens=server.max_tokens_field),
        **dialect.exact,
        **server.extra,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
