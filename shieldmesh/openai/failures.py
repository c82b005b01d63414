"""What can go wrong with a server, as typed errors. Pure.

What a server says of its error can quote the prompt, or the key: it decides over the type and is never passed on.
"""

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from pydantic import BaseModel, ValidationError

from shieldmesh.errors import (
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    MeshError,
    ResourceExhaustedError,
    UnavailableError,
)

UNREACHABLE: Final = "UPSTREAM_UNREACHABLE"
FAILED: Final = "UPSTREAM_FAILED"
BUSY: Final = "UPSTREAM_BUSY"
TRUNCATED: Final = "UPSTREAM_TRUNCATED"
TIMEOUT: Final = "UPSTREAM_TIMEOUT"
MALFORMED: Final = "UPSTREAM_MALFORMED"

PASSING: Final = frozenset({UNREACHABLE, FAILED, BUSY, TRUNCATED, TIMEOUT})
"""Reasons that another attempt may not meet, if there is time for one."""
BLAMED: Final = frozenset({UNREACHABLE, FAILED, TRUNCATED, TIMEOUT, MALFORMED})
"""Reasons that say that something is wrong with the server, not with one request."""

_TOO_LONG: Final = re.compile(r"context (length|window|size)|maximum.{0,40}tokens|too many tokens", re.IGNORECASE)
_FIELDS: Final = frozenset({"messages", "tools", "response_format"})
_SAMPLING: Final = frozenset({"temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed", "stop"})
_LONGEST_WAIT: Final = 3600.0


class Complaint(BaseModel):
    """The `error` of a server's answer, as far as it is understood."""

    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    param: object = None

    def is_about(self, *kinds: str | int) -> bool:
        """Whether it names one of these as its type or code."""
        return self.type in kinds or self.code in kinds

    @property
    def is_too_long(self) -> bool:
        """Whether the prompt is longer than the model takes."""
        known = self.is_about("context_length_exceeded", "exceed_context_size_error")
        return known or _TOO_LONG.search(self.message or "") is not None


class _Answer(BaseModel):
    error: Complaint


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
    """The error for an answer that is not 200."""
    complaint = _complaint(body)
    # 1. this server's own trouble, 2. too much asked of it, 3. our configuration, 4. the request
    if status >= 500:
        return UnavailableError(
            f"the model's server failed with status {status}; try again later",
            reason=FAILED,
            retry_after=retry_after(headers),
        )
    if status in {408, 409, 425, 429}:
        return _too_much(complaint, retry_after(headers))
    if status in {401, 403}:
        return FailedPreconditionError(
            f"the model's server refused our key with status {status}: the operator should look at the model's api_key",
            reason="UPSTREAM_UNAUTHENTICATED",
        )
    if status in {400, 413, 422}:
        return _wrong_request(status, complaint)
    return FailedPreconditionError(
        f"the model's server answered with status {status}, as if there were no such API or model: the operator should "
        "look at the model's url and model",
        reason="UPSTREAM_NOT_FOUND",
    )


def reported(complaint: Complaint) -> MeshError:
    """The error that a server put into the stream of its answer."""
    if complaint.is_too_long:
        return _wrong_request(400, complaint)
    if complaint.is_about("rate_limit_exceeded", "rate_limit_error", "insufficient_quota", 429, "429"):
        return _too_much(complaint, None)
    return UnavailableError("the model's server failed in its answer; try again later", reason=FAILED)


def unreachable() -> MeshError:
    """No connection could be opened."""
    return UnavailableError("the model's server cannot be reached; try again later", reason=UNREACHABLE)


def truncated() -> MeshError:
    """The connection ended before the answer did."""
    return UnavailableError("the model's server ended its answer before it was whole; try again", reason=TRUNCATED)


def timeout(what: str, seconds: float) -> MeshError:
    """A limit passed while the server was to send `what`."""
    return UnavailableError(
        f"the model's server did not send {what} within {seconds:.3g} s; try again later", reason=TIMEOUT
    )


def malformed(what: str) -> MeshError:
    """The server does not speak the protocol; `what` says where."""
    return InternalError(
        f"the model's server is not understood: {what}; the operator should look at the model's url", reason=MALFORMED
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, or None."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        elif "retry-after" not in headers:
            return None
        elif headers["retry-after"][:1].isalpha():
            seconds = parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time()
        else:
            seconds = float(headers["retry-after"])
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_WAIT)


def _too_much(complaint: Complaint, wait: float | None) -> MeshError:
    if complaint.is_about("insufficient_quota"):
        return ResourceExhaustedError(
            "the quota at the model's server is used up: the operator should look at the account",
            reason="UPSTREAM_QUOTA",
        )
    return ResourceExhaustedError("the model's server is busy; try again later", reason=BUSY, retry_after=wait)


def _wrong_request(status: int, complaint: Complaint) -> MeshError:
    if status == 413 or complaint.is_too_long:
        return InvalidArgumentError(
            "the prompt is longer than the model's context window: send less text",
            reason="CONTEXT_TOO_LONG",
            field="messages",
        )
    field = _field(complaint.param)
    return InvalidArgumentError(
        f"the model's server refused the request with status {status}: leave out what this model may not know, such as "
        "tools, a JSON Schema or a sampling value",
        reason="UPSTREAM_REFUSED",
        field=field,
    )


def _field(param: object) -> str:
    """The field of our request that the server named, or ""."""
    name = re.split(r"[.\[]", param, maxsplit=1)[0] if isinstance(param, str) else ""
    if name in _SAMPLING:
        return f"sampling.{name}"
    return name if name in _FIELDS else ""


def _complaint(body: bytes) -> Complaint:
    try:
        return _Answer.model_validate_json(body).error
    except ValidationError:
        return Complaint()
