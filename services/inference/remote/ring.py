"""Models of inference services that point at one another in a ring: told at the first model that is met again."""

import secrets
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from shieldmesh import context
from shieldmesh.context import RequestContext
from shieldmesh.errors import FailedPreconditionError

VIA: Final = "via"
"""The session value that holds the marks of the models a request has gone on from."""

_APART: Final = "."


class RingGuard:
    """Marks the requests that go on from one model of this process, and knows them again.

    Without it a ring would use up all places of all its models, each of which waits for the next.
    """

    def __init__(self) -> None:
        self._mark = secrets.token_hex(4)

    def check(self) -> None:
        """Looks at the current request.

        Raises:
            FailedPreconditionError: it has been here; MODEL_RING.
        """
        if self._mark in self._marks():
            raise FailedPreconditionError(
                "the models of inference services point at one another in a ring: the operator should look at them",
                reason="MODEL_RING",
            )

    def marked(self) -> RequestContext:
        """The current context for a request that goes on from here."""
        ours = context.current()
        marks = _APART.join([*self._marks(), self._mark])
        return replace(ours, values=MappingProxyType({**ours.values, VIA: marks}))

    def _marks(self) -> list[str]:
        return [mark for mark in context.current().values.get(VIA, "").split(_APART) if mark]
