"""One turn, read without an event loop."""

import sys
from collections.abc import Generator
from contextlib import suppress
from types import TracebackType
from typing import Self

from shieldmesh.client import wire
from shieldmesh.client.events import Event, Result
from shieldmesh.client.line import Line
from shieldmesh.client.reconnect import Reading
from shieldmesh.client.request import Call
from shieldmesh.errors import MeshError
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc


class SyncTurn:
    """The events of one turn, to be read once with `for`, by one thread at a time.

    Reading to the end, an error, leaving `with turn:`, `close`, and dropping it (as `break` does) all end the call. A
    connection that breaks ends nothing: the reading goes on after the last event, and `Reconnected` tells of it.
    """

    def __init__(self, line: Line, reading: Reading) -> None:
        self._events = _read(line, reading)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def result(self) -> Result:
        """The whole turn, once it has ended.

        Raises:
            MeshError: the mesh could not do its job; the error's hops say where.
        """
        with self:
            return wire.collect(self)

    def text(self) -> str:
        """All released text, once the turn has ended.

        Raises:
            MeshError: see `result`.
        """
        return self.result().text

    def close(self) -> None:
        """Cancels the call if it still runs. For the thread that reads; others close the mesh."""
        self._events.close()


def _read(line: Line, reading: Reading) -> Generator[Event]:
    try:
        while True:
            try:
                with line.stream(reading.call()) as messages:
                    for message in messages:
                        yield from reading.read(message)
                reading.end()
                return
            except MeshError as error:
                failure = line.explain(error, reading.sequence)
            line.pause(reading.failed(failure))
    finally:
        forsaken = reading.forsaken()
        if forsaken is not None:
            _end(line, forsaken)


def _end(line: Line, call: Call[chat_pb2.CancelTurnRequest]) -> None:
    """Ends a turn that waits for its reader. If that fails, its grace ends it."""
    if not line.closed and not sys.is_finalizing():
        with suppress(MeshError):
            line.ask("ChatService/CancelTurn", lambda channel: chat_pb2_grpc.ChatServiceStub(channel).CancelTurn, call)
