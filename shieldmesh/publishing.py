"""Interim results: any service publishes one into the turn that it works for, and into no other.

A ContextVar holds where the results of the current call go. So tasks inherit it, and `context.run_in_thread`
and `bind` carry it; other processes and workers that serve many turns have none.

```text
progress(…) ──▶ outlet of this call ──▶ the call's own response ──▶ outlet of the caller ──▶ … ──▶ the turn's events
```
"""

import asyncio
import contextvars
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, cast

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import progress_pb2

MOST: Final = 1_000
"""Results that one call takes in all."""
MOST_WAITING: Final = 64
"""Results of threads that may wait for the event loop."""
LARGEST: Final = 4_096
"""Bytes of a payload as JSON text."""
DEEPEST: Final = 16
"""Objects and lists within one another in a payload."""

_NAME: Final = re.compile(r"[a-z0-9_.-]{1,64}")

Take = Callable[[progress_pb2.Progress], bool]
"""Takes a result on its way to the turn, in the event loop; whether it had room."""


def progress(name: str, payload: Mapping[str, object] | None = None) -> bool:
    """Publishes an interim result into the turn that the current code works for, as an event `Progress` of its client.

    Call it from any task or thread that has the call's context; it never waits. No shield sees what is published: put
    no text of users or models into it.

    Args:
        name: What it is: 1 to 64 of [a-z0-9_.-].
        payload: What JSON can say, at most 4 KiB of it, and at most 16 levels deep.

    Returns:
        Whether it is on its way. Not so where the code works for no turn, or not any more, behind the first 1,000
        results of a call, and while so much waits for the turn's reader that nothing more may.

    Raises:
        InvalidArgumentError: the name or the payload cannot be sent; `field` says which.
    """
    message = _message(name, payload or {})
    outlet = _current.get()
    return outlet is not None and outlet.put(message)


def forward(message: progress_pb2.Progress) -> bool:
    """Publishes what another service published for this turn; one that breaks the contract goes nowhere."""
    outlet = _current.get()
    return outlet is not None and _is_fit(message) and outlet.put(message)


def published_to(take: Take) -> AbstractContextManager[None]:
    """Has what is published inside the block taken, in the loop that it is entered in; behind the block nothing is."""
    return _Outlet(take)


def _nowhere(message: progress_pb2.Progress) -> bool:
    del message
    return False


class _Outlet:
    """Where the results of one call go; for any thread."""

    __slots__ = ("_home", "_left", "_lock", "_loop", "_open", "_take", "_token", "_waiting")

    def __init__(self, take: Take) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._home = threading.get_ident()
        self._lock = threading.Lock()
        self._left = MOST
        self._waiting = 0
        self._open = True

    def __enter__(self) -> None:
        self._token = _current.set(self)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        self.close()

    def put(self, message: progress_pb2.Progress) -> bool:
        """Takes a result; whether it could."""
        here = threading.get_ident() == self._home
        with self._lock:
            if not self._open or self._left <= 0 or self._waiting >= MOST_WAITING:
                return False
            self._left -= 1
            self._waiting += not here
        if here:
            return self._take(message)
        try:
            self._loop.call_soon_threadsafe(self._arrive, message)
        except RuntimeError:
            return False  # the loop is closed
        return True

    def close(self) -> None:
        """Takes nothing any more."""
        with self._lock:
            self._open = False
            # Whoever keeps the context of a call that is over, as a timer that was cancelled does, keeps no turn.
            self._take = _nowhere

    def _arrive(self, message: progress_pb2.Progress) -> None:
        with self._lock:
            self._waiting -= 1
        if self._open:
            self._take(message)


_current: Final[contextvars.ContextVar[_Outlet | None]] = contextvars.ContextVar("shieldmesh.progress", default=None)


def _message(name: str, payload: Mapping[str, object]) -> progress_pb2.Progress:
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError("the name of progress is 1 to 64 of [a-z0-9_.-]", field="name")
    if not _flat_enough(payload, DEEPEST):
        raise InvalidArgumentError(f"the payload has more than {DEEPEST} levels: say less", field="payload")
    try:
        text = json.dumps(dict(payload), allow_nan=False)
        message = progress_pb2.Progress(name=name, payload=json_format.Parse(text, Struct()))
    except (TypeError, ValueError, json_format.ParseError):
        # What is wrong with it could quote it.
        raise InvalidArgumentError(
            "the payload must be what JSON can say: a mapping by text", field="payload"
        ) from None
    if len(text) > LARGEST:
        raise InvalidArgumentError(
            f"the payload has {len(text)} bytes as JSON text, at most {LARGEST} are taken: say less", field="payload"
        )
    return message


def _flat_enough(value: object, levels: int) -> bool:
    if isinstance(value, Mapping):
        parts = tuple(cast("Mapping[object, object]", value).values())
    elif isinstance(value, list | tuple):
        parts = tuple(cast("Sequence[object]", value))
    else:
        return True
    return levels > 0 and all(_flat_enough(part, levels - 1) for part in parts)


def _is_fit(message: progress_pb2.Progress) -> bool:
    # Its wire form is longer than its JSON text can be short; what was just within the limit passes.
    return bool(_NAME.fullmatch(message.name)) and message.payload.ByteSize() <= 4 * LARGEST
