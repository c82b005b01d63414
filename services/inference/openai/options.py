"""What can be set about a model of an OpenAI-compatible server, in the configuration and by a request."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from services.inference.keys import ApiKey
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
    between_tokens: float = Field(default=30.0, gt=0, le=3600)
    """From one token to the next, or to the end."""


class Retries(BaseModel):
    """When a request is sent again: only before its first token, and only while most requests do well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(default=3, ge=1, le=10)
    """Attempts at one request, the first included."""
    pause: float = Field(default=0.2, gt=0, le=60)
    """Seconds that the second attempt waits at most, by chance, and each further one up to twice as long. A server's
    Retry-After counts instead."""
    budget: int = Field(default=10, ge=0, le=10_000)
    """What the model may spend on retries: each failure costs 1, each success brings 0.1 back, and below one half no
    request is sent again. 0 switches retries off."""


class Circuit(BaseModel):
    """When a server that fails is left alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    failures: int = Field(default=5, ge=1, le=10_000)
    """In a row, after which it is left alone."""
    pause: float = Field(default=10.0, gt=0, le=3600)
    """Seconds for which it is; then one request at a time tries."""


class OpenAIOptions(BaseModel):
    """Options of the model itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_server_url)]
    """Below it lies `chat/completions`, for example http://127.0.0.1:8000/v1."""
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


class OpenAIRequestOptions(BaseModel):
    """Options of one request: there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")
