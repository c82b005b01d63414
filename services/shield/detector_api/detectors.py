"""Shields as detectors: a type and its options, and what such a shield finds in each of several texts."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from google.protobuf import json_format, message
from google.protobuf.struct_pb2 import Struct

from services.shield.catalogue import Catalogue
from services.shield.ledger import Judged, Release
from services.shield.shield import Shield
from services.shield.spans import ShieldSpans
from services.shield.texts import inspected
from shieldmesh import context
from shieldmesh.errors import DeadlineExceededError, InternalError, InvalidArgumentError, NotFoundError
from shieldmesh.profile import struct
from shieldmesh.profile.options import SHIELD_TYPES
from shieldmesh.v1 import policy_pb2

DETECTOR_ID: Final = "detector-id"
EXPECTED: Final = f"expected one of {', '.join(SHIELD_TYPES)}"
_PLACE: Final = "shields[0].options"
"""Where the catalogue sees what comes as `detector_params`."""


class Detectors:
    """The built-in types of shields, each a detector by its name."""

    def __init__(self, catalogue: Catalogue, *, max_characters: int) -> None:
        """`max_characters` is what one request may bring in all its contents."""
        self._catalogue = catalogue
        self._max_characters = max_characters

    async def detect(
        self,
        detector: str,
        contents: Sequence[str],
        params: Mapping[str, Any],  # Any: JSON values that the detector's options check
    ) -> list[Sequence[Judged]]:
        """What the detector with these options finds in each content, by place.

        Raises:
            NotFoundError: there is no such detector.
            InvalidArgumentError: the options are wrong, or the contents too long.
            DeadlineExceededError: the detector took too long.
            InternalError: the detector failed.
        """
        if detector not in SHIELD_TYPES:
            raise NotFoundError(f"{DETECTOR_ID}: there is no such detector, {EXPECTED}", field=DETECTOR_ID)
        if sum(map(len, contents)) > self._max_characters:
            text = f"contents: at most {self._max_characters} characters are taken in one request"
            raise InvalidArgumentError(text, field="contents")
        shields = await self._shields(detector, params)
        releases: list[Release] = []
        with ShieldSpans(shields) as spans:
            async with aclosing(inspected(shields, spans, contents)) as inspections:
                async for release in inspections:
                    releases.append(release)
                    if release.failures:
                        break
        return [_findings(each) for each in releases]

    async def _shields(self, detector: str, params: Mapping[str, Any]) -> Sequence[Shield]:
        """A set of one, which tells what it finds and changes nothing."""
        # Thousands of terms take a while to translate: not on the loop.
        options = await context.run_in_thread(_struct, params) if params else Struct()
        spec = policy_pb2.ShieldSpec(name=detector, type=detector, action=policy_pb2.ACTION_FLAG, options=options)
        try:
            return await self._catalogue.shields([spec])
        except InvalidArgumentError as error:
            field = error.field.replace(_PLACE, "detector_params")
            raise InvalidArgumentError(error.message.replace(error.field, field), field=field) from None


def _struct(params: Mapping[str, Any]) -> Struct:
    try:
        options = struct(dict(params))
        # What JSON can say and a specification cannot: numbers without bounds, and lists in lists without end.
        json_format.MessageToDict(options)
        options.SerializeToString()
    except (ValueError, OverflowError, json_format.Error, message.Error):
        text = "detector_params: a number is too large, or a value lies too deep"
        raise InvalidArgumentError(text, field="detector_params") from None
    return options


def _findings(release: Release) -> Sequence[Judged]:
    for failure in release.failures:
        if failure.error == "SHIELD_TIMEOUT":
            raise DeadlineExceededError("the detector took too long", reason=failure.error)
        raise InternalError("the detector failed; the log says how", reason=failure.error)
    return release.findings
