"""One answer by the first of several models that gives one, as a profile's `fallback` says."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import structlog

from shieldmesh.errors import (
    FailedPreconditionError,
    InternalError,
    MeshError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from shieldmesh.v1 import inference_pb2

from .generation import Take, generate

if TYPE_CHECKING:
    from .generation import Rpc

ELSEWHERE: Final[Mapping[type[MeshError], frozenset[str]]] = MappingProxyType(
    {
        UnavailableError: frozenset(),
        ResourceExhaustedError: frozenset(),
        NotFoundError: frozenset({"MODEL_NOT_FOUND"}),
        FailedPreconditionError: frozenset({"UPSTREAM_UNAUTHENTICATED", "UPSTREAM_NOT_FOUND", "MODEL_RING"}),
        InternalError: frozenset({"ENGINE_FAILED", "ENGINE_BROKEN", "UPSTREAM_MALFORMED"}),
    }
)
"""The errors that another model may not meet: by type, and by reason where not all of a type are such. What is wrong
with the request, or with the mesh itself, is wrong with all models."""

_NO_OUTPUT: Final = frozenset({"started", "progress", "finished"})

_log = structlog.stdlib.get_logger("shieldmesh.turn")


async def generate_by_first(
    rpc: "Rpc",
    opening: inference_pb2.GenerateOpen,
    fallback: Sequence[str],
    *,
    take: Take,
    let_go: Callable[[], None],
    asked: Callable[[str, Sequence[str]], None],
) -> None:
    """Like `generate`, by the model of the opening or, when that fails before it has put anything out, by the next.

    Args:
        rpc: `InferenceService.Generate`.
        opening: What is asked.
        fallback: The models to ask after that of the opening, in order.
        take: Called with each event in order, also those of models that then failed: what they cost is among them.
        let_go: See `generate`.
        asked: Called when each model is asked, with its name and those that have failed.

    Raises:
        MeshError: what the last model that was asked raised.
    """
    if not fallback:
        # Nothing to look out for in what the model says, and nothing of the opening to change.
        await generate(rpc, opening, take, let_go=let_go, asked=partial(asked, opening.model, ()))
        return
    failed: list[str] = []
    models = (opening.model, *fallback)
    for model, following in zip(models, (*fallback, None), strict=True):
        attempt = _Attempt(take)
        request = inference_pb2.GenerateOpen()
        request.CopyFrom(opening)
        request.model = model
        try:
            await generate(rpc, request, attempt.take, let_go=let_go, asked=partial(asked, model, tuple(failed)))
        except MeshError as error:
            if following is None or attempt.has_output or not _may_be_asked_elsewhere(error):
                raise
            _log.warning("model failed, another is asked", model=model, error=error.reason, next=following)
            failed.append(model)
        else:
            return


class _Attempt:
    """The events of one model.

    Attributes:
        has_output: Whether there was output among them.
    """

    def __init__(self, take: Take) -> None:
        self.has_output = False
        self._take = take

    async def take(self, event: inference_pb2.GenerateEvent) -> None:
        if event.WhichOneof("event") not in _NO_OUTPUT:
            self.has_output = True
        await self._take(event)


def _may_be_asked_elsewhere(error: MeshError) -> bool:
    reasons = ELSEWHERE.get(type(error))
    return reasons is not None and (not reasons or error.reason in reasons)
