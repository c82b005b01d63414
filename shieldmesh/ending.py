"""How a generation ended whose call was written to, as the server said it."""

import asyncio
from typing import Final

import grpc

from shieldmesh.errors import USAGE_KEY
from shieldmesh.interceptors.client import WRITE_FAILED, at_once
from shieldmesh.v1 import generation_pb2

_A_MOMENT: Final = 0.001


class GenerationEnding:
    """How a call of Generate ended, as its server said it.

    A call tells its end once, and grpc.aio takes a write that failed for an end. What the server said is known then to
    who looked before, or comes into the call later without a word. Give `note` to the call as a done-callback.

    Attributes:
        usage: What a generation cost that ended without `finished`.
    """

    def __init__(self) -> None:
        self.usage: generation_pb2.Usage | None = None
        self._heard = False

    def note(self, call: grpc.aio.Call) -> None:
        """Looks at the status of a call that is done."""
        if at_once(call.details()) == WRITE_FAILED:
            return
        for key, value in at_once(call.trailing_metadata()) or ():
            if key == USAGE_KEY and isinstance(value, bytes):
                self.usage = generation_pb2.Usage.FromString(value)
        self._heard = True

    async def heard(self, call: grpc.aio.Call) -> None:
        """Returns when the server has said it. It has, once there is nothing more to read: this takes a moment."""
        self.note(call)
        while not self._heard:
            await asyncio.sleep(_A_MOMENT)
            self.note(call)
