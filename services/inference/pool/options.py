"""What can be set about a model with one endpoint or several."""

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

MOST_ENDPOINTS: Final = 64


class Retries(BaseModel):
    """When a request is sent again: only before its first token, and only while most requests do well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(default=3, ge=1, le=10)
    """Attempts at one request, the first included; each at another endpoint while there is one."""
    pause: float = Field(default=0.2, gt=0, le=60)
    """Seconds that the second attempt waits at most, by chance, and each further one up to twice as long. A server's
    Retry-After counts instead. An endpoint that was not asked yet is asked at once."""
    budget: int = Field(default=10, ge=0, le=10_000)
    """What the model may spend on retries: each failure costs 1, each success brings 0.1 back, and below one half no
    request is sent again. 0 switches retries off."""


class Circuit(BaseModel):
    """When an endpoint that fails is left alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    failures: int = Field(default=5, ge=1, le=10_000)
    """In a row, after which it is left alone."""
    pause: float = Field(default=10.0, gt=0, le=3600)
    """Seconds for which it is; then one request at a time tries."""


def endpoints(url: str | None, urls: Sequence[str]) -> Sequence[str]:
    """The URLs of a model that has `url` or `urls`.

    Raises:
        ValueError: it has both or none, or one of them twice.
    """
    if (url is None) == (not urls):
        raise ValueError("either url or urls is needed: the endpoint of the model, or all of them")
    given = list(urls) or [url or ""]
    if len(set(given)) < len(given):
        raise ValueError("urls: one of them stands there more than once")
    return given
