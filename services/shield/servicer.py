"""ShieldService: checks what comes in, and lets the shields speak."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.profile.options import SHIELD_TYPES
from shieldmesh.v1 import policy_pb2, shield_pb2, shield_pb2_grpc

from .catalogue import Catalogue
from .lanes import Lanes
from .spans import ShieldSpans
from .texts import inspected
from .translation import Translator


class ShieldServicer(shield_pb2_grpc.ShieldServiceServicer):
    """See `shieldmesh.v1.ShieldService`."""

    def __init__(self, catalogue: Catalogue, *, max_characters: int) -> None:
        """`max_characters` is what one call may bring in all its texts."""
        self._catalogue = catalogue
        self._max_characters = max_characters

    async def Inspect(  # noqa: N802  # the contract's name
        self, request: shield_pb2.InspectRequest, context: object
    ) -> shield_pb2.InspectResponse:
        """See `shieldmesh.v1.ShieldService.Inspect`."""
        del context
        _check_direction(request.direction, "direction")
        _check_key(request.pseudonym_key, "pseudonym_key")
        if sum(map(len, request.texts)) > self._max_characters:
            message = f"texts: at most {self._max_characters} characters are taken in one call"
            raise InvalidArgumentError(message, field="texts")
        shields = await self._catalogue.shields(request.shields)
        translator = Translator(shields, request.direction)
        key = request.pseudonym_key or secrets.token_bytes(16)  # one for all texts
        response = shield_pb2.InspectResponse()
        with ShieldSpans(shields, request.direction) as spans:
            index = 0
            async for release in inspected(shields, spans, request.texts, pseudonym_key=key):
                response.edits.extend(translator.edits(index, release))
                response.verdicts.extend(translator.verdicts(index, release))
                index += 1
        return response

    async def InspectStream(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[shield_pb2.InspectStreamRequest], context: object
    ) -> AsyncGenerator[shield_pb2.InspectStreamResponse, None]:
        """See `shieldmesh.v1.ShieldService.InspectStream`."""
        del context
        opening = await _opening(request_iterator)
        _check_direction(opening.direction, "open.direction")
        _check_key(opening.pseudonym_key, "open.pseudonym_key")
        shields = await self._catalogue.shields(opening.shields, "open.shields")
        with ShieldSpans(shields, opening.direction) as spans:
            lanes = Lanes(shields, opening, spans, max_characters=self._max_characters)
            yield shield_pb2.InspectStreamResponse(opened=shield_pb2.InspectOpened())
            async with aclosing(lanes.answers(request_iterator)) as answers:
                async for answer in answers:
                    yield answer

    async def ListShields(  # noqa: N802  # the contract's name
        self, request: shield_pb2.ListShieldsRequest, context: object
    ) -> shield_pb2.ListShieldsResponse:
        """See `shieldmesh.v1.ShieldService.ListShields`."""
        del request, context
        types = [
            shield_pb2.ShieldType(
                type=each.name, kind=each.kind, description=each.description, finding_kinds=each.finding_kinds
            )
            for each in SHIELD_TYPES.values()
        ]
        return shield_pb2.ListShieldsResponse(types=types)


async def _opening(requests: AsyncIterator[shield_pb2.InspectStreamRequest]) -> shield_pb2.InspectOpen:
    first = await anext(aiter(requests), None)
    if first is None or first.WhichOneof("request") != "open":
        raise InvalidArgumentError("open: the first request of a stream opens it", field="open")
    return first.open


def _check_direction(direction: policy_pb2.Direction.ValueType, field: str) -> None:
    if direction not in {policy_pb2.DIRECTION_INPUT, policy_pb2.DIRECTION_OUTPUT}:
        raise InvalidArgumentError(f"{field}: input or output is required", field=field)


def _check_key(key: bytes, field: str) -> None:
    if key and not 16 <= len(key) <= 64:
        raise InvalidArgumentError(f"{field}: a key has 16 to 64 bytes, not {len(key)}", field=field)
