"""The HTTP of the detector API: paths, statuses, limits, and what surrounds a request."""

import asyncio
from collections.abc import Mapping
from typing import Final

import grpc
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.shield.catalogue import Catalogue
from shieldmesh.errors import InvalidArgumentError, MeshError
from shieldmesh.interceptors import deadline, errors
from shieldmesh.interceptors.call import CallerGoneError, ServerCall, ServerIdentity
from shieldmesh.profile.options import SHIELD_TYPES

from .caller import read_body, unless_gone
from .detectors import DETECTOR_ID, EXPECTED, Detectors
from .document import CONTENTS, HEALTH, OPENAPI, document
from .span import served
from .wire import read_contents, write_detections

_CHARACTER: Final = 6
"""Bytes of a character in JSON: at most, save for the few that JSON may write as two."""
_ROOM: Final = 1_048_576
"""Bytes for all that is no content: the options above all."""

_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 422,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_FAILED: Final = 500
_STOPPING: Final = 503


def detector_app(catalogue: Catalogue, *, max_characters: int, call_cap: float) -> Starlette:
    """The detector API as an ASGI application.

    Args:
        catalogue: Builds the shields.
        max_characters: What one request may bring in all its contents.
        call_cap: Seconds that one request may take.
    """
    contents = _Contents(Detectors(catalogue, max_characters=max_characters), max_characters, call_cap)
    described = document((each.name, each.description) for each in SHIELD_TYPES.values())

    async def healthy(_request: Request) -> Response:
        return JSONResponse("ok")

    async def describe(_request: Request) -> Response:
        return JSONResponse(described)

    return Starlette(
        routes=[
            Route(CONTENTS, contents.answer, methods=["POST"]),
            Route(HEALTH, healthy, methods=["GET"]),
            Route(OPENAPI, describe, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _not_here},
    )


class _Contents:
    """`POST /api/v1/text/contents`."""

    def __init__(self, detectors: Detectors, max_characters: int, call_cap: float) -> None:
        self._detectors = detectors
        self._max_bytes = _CHARACTER * max_characters + _ROOM
        self._identity = ServerIdentity("shield", "", call_cap)

    async def answer(self, request: Request) -> Response:
        """The findings, or what went wrong."""
        call = ServerCall(self._identity, CONTENTS, request.headers, time_remaining=None)
        with served(request, CONTENTS) as outcome:
            try:
                with errors.serve(call), deadline.serve(call):
                    answer = await self._detect(request)
            except CallerGoneError:
                return Response()  # nobody reads it
            except asyncio.CancelledError:
                # The server stops, and the grace for what still runs is over.
                outcome.status = _STOPPING
                return _failure(_STOPPING, "the service stops; try again")
            except MeshError as error:
                outcome.reason = error.reason
                outcome.status = _STATUS.get(error.code, _FAILED)
                return _failure(outcome.status, error.message)
            outcome.status = 200
            return Response(answer, media_type="application/json")

    async def _detect(self, request: Request) -> bytes:
        detector = request.headers.get(DETECTOR_ID)
        if detector is None:
            raise InvalidArgumentError(f"{DETECTOR_ID}: the header is missing, {EXPECTED}", field=DETECTOR_ID)
        given = read_contents(await read_body(request, self._max_bytes))
        work = self._detectors.detect(detector, given.contents, given.detector_params)
        return write_detections(detector, given.contents, await unless_gone(request, work))


async def _not_here(_request: Request, error: Exception) -> Response:
    """There is no such path, or not with this method."""
    assert isinstance(error, HTTPException)  # noqa: S101  # Starlette calls it for nothing else
    return _failure(error.status_code, error.detail, error.headers)


def _failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"code": status, "message": message}, status, headers)
