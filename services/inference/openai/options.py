"""What can be set about a model of an OpenAI-compatible server, in the configuration and by a request."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from services.inference.keys import ApiKey
from services.inference.pool.options import MOST_ENDPOINTS, Circuit, Retries, endpoints
from shieldmesh.openai.body import Dialect

_OURS: Final = frozenset(
    {"messages", "model", "n", "response_format", "stop", "stream", "tools", "functions", "temperature", "max_tokens"}
)


def _server_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    else:
        if parts.username is not None or parts.password is not None:
            raise ValueError("a URL shows up in logs: credentials belong in api_key")
        valid = valid and not parts.query and not parts.fragment
    if not valid:
        raise ValueError("expected the URL below which the API lies, for example http://127.0.0.1:8000/v1")
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_server_url)]


def _no_field_of_ours(extra: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    if taken := sorted(_OURS & extra.keys()):
        raise ValueError(f"{', '.join(taken)}: that is for requests to say")
    return extra


class Timeouts(BaseModel):
    """Seconds that a server may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connect: float = Field(default=5.0, gt=0, le=600)
    """To open a connection."""
    first_token: float = Field(default=60.0, gt=0, le=3600)
    """From the begin to the first token, with connecting and all retries. Keep-alives do not count as tokens."""
    attempt: float | None = Field(default=None, gt=0, le=3600)
    """Of `first_token`, what one server may take while there is another to ask. None: all of it, as a server that reads
    a long prompt is no server that hangs."""
    between_tokens: float = Field(default=30.0, gt=0, le=3600)
    """From one token to the next, or to the end."""


class OpenAIOptions(BaseModel):
    """Options of the model itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Url | None = None
    """Below it lies `chat/completions`, for example http://127.0.0.1:8000/v1."""
    urls: Annotated[tuple[Url, ...], Field(max_length=MOST_ENDPOINTS)] = ()
    """Instead of `url`: several servers that have the same model."""
    model: str = Field(min_length=1, max_length=256)
    """What the server calls the model."""
    api_key: ApiKey | None = None
    """A reference, `{env: NAME}` or `{file: path}`; sent as a bearer token."""
    dialect: Dialect = "openai"
    """What the server knows beside OpenAI's documented API. With `vllm` and `llama-server` it counts tokens with each
    chunk, so that the cost of a generation that was stopped is known; OpenAI's API tells it at the very end only."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Reasoning models of OpenAI know the second name only, most other servers the first."""
    tools: bool = True
    """Whether the model may be given tools. Set it to false where the server would drop them silently."""
    context_window: int = Field(default=0, ge=0, le=2**31)
    """Tokens of prompt and answer together, told to whoever asks; 0 means unknown."""
    traceparent: bool = True
    """Whether the server is told the trace of a request. Nothing else of ours is ever sent."""
    extra: Annotated[Mapping[str, JsonValue], AfterValidator(_no_field_of_ours)] = Field(
        default_factory=dict[str, JsonValue]
    )
    """Fields for the body of every request that the server knows and OpenAI does not."""
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    circuit: Circuit = Circuit()

    @model_validator(mode="after")
    def _some_endpoint(self) -> Self:
        endpoints(self.url, self.urls)
        return self

    @property
    def endpoints(self) -> Sequence[str]:
        """The servers' URLs."""
        return endpoints(self.url, self.urls)


class OpenAIRequestOptions(BaseModel):
    """Options of one request: there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")
