"""The answer of a detector, checked by place."""

from collections.abc import Sequence
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from services.shield.shield import Finding, ShieldError
from services.shield.window.windows import Part
from shieldmesh.profile.options import KindFrom

from .findings import BROKEN, finding, plain

_log = structlog.stdlib.get_logger("shieldmesh.shield")


class Detection(BaseModel):
    """What a detector found in one content. It says more, which is not looked at."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    start: int
    end: int
    detection: str
    detection_type: str
    score: float


_ANSWER: Final = TypeAdapter(list[list[Detection]])


def read(answer: bytes, parts: Sequence[Part], kind_from: KindFrom) -> list[Finding]:
    """The findings in the parts of a text that the detector was asked about, as places in that text.

    A detection of nothing in a part that is not empty is about all of it.

    Raises:
        ShieldError: it is no such answer.
    """
    try:
        detections = _ANSWER.validate_json(answer)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        # The place and the type alone: names and values are the remote's.
        _log.warning("a detector's answer is malformed", place=list(first["loc"]), error=first["type"])
        raise ShieldError(BROKEN) from None
    if len(detections) != len(parts):
        _log.warning("a detector's answer is malformed", error="it must have one list for each content")
        raise ShieldError(BROKEN)
    return [
        _finding(each, part, getattr(each, kind_from))
        for found, part in zip(detections, parts, strict=True)
        for each in found
    ]


def _finding(found: Detection, part: Part, name: str) -> Finding:
    if found.end > len(part.text):
        _log.warning("a detector's answer is malformed", error="a span ends behind its content")
        raise ShieldError(BROKEN)
    each = finding(plain(name), found.start, found.end, found.score)
    if each.start == each.end:
        each = each._replace(start=0, end=len(part.text))
    return each._replace(start=part.start + each.start, end=part.start + each.end)
