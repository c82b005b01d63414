"""What comes over the wire and what goes back: JSON, checked by place."""

from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json

from services.shield.ledger import Judged
from shieldmesh.errors import InvalidArgumentError

MAX_CONTENTS: Final = 10_000
"""Contents of one request."""


class ContentsRequest(BaseModel):
    """The body of `POST /api/v1/text/contents`."""

    model_config = ConfigDict(strict=True, frozen=True)

    contents: list[str] = Field(max_length=MAX_CONTENTS)
    detector_params: dict[str, Any] = Field(default_factory=dict)  # Any: JSON values that the detector's options check


def read_contents(body: bytes) -> ContentsRequest:
    """The request in a body.

    Raises:
        InvalidArgumentError: it is no JSON, or not of this shape; the message names the place and quotes nothing.
    """
    try:
        return ContentsRequest.model_validate(from_json(body, allow_inf_nan=False))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = _place(first["loc"])
        raise InvalidArgumentError(f"{place}: {first['msg']}", field=place) from None
    except ValueError as error:
        raise InvalidArgumentError(f"the body is not JSON in UTF-8: {error}", field="body") from None


def write_detections(detector: str, contents: Iterable[str], findings: Iterable[Iterable[Judged]]) -> bytes:
    """The answer: a list for each content, with what was found in it, by place."""
    return to_json(
        [
            [_detection(detector, content, each) for each in found]
            for content, found in zip(contents, findings, strict=True)
        ]
    )


def _detection(detector: str, content: str, judged: Judged) -> dict[str, object]:
    finding = judged.finding
    return {
        "start": finding.start,
        "end": finding.end,
        "text": content[finding.start : finding.end],
        "detection": finding.kind,
        "detection_type": detector,
        "score": finding.score,
        "evidence": [],
        "metadata": {},
    }


def _place(steps: tuple[int | str, ...]) -> str:
    """`contents[3]` of ("contents", 3)."""
    dotted = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return dotted.removeprefix(".") or "body"
