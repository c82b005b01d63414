"""Idempotency keys: which turn a request with a key stands for, at whichever replica it arrives.

```text
key ──claim──▶ turn A failed ──claim──▶ turn B runs, or ended well: attach to it
```

A turn that failed frees its key: the next claim is on a name made of the key's and that turn's, so that of several who
ask again then all but one attach.
"""

import asyncio
import hashlib
import secrets
from typing import Final

import structlog

from shieldmesh.context import ID_PATTERN
from shieldmesh.errors import InvalidArgumentError, UnavailableError
from shieldmesh.v1 import chat_pb2

from .log.turn_log import Owner, Record, TurnLog

_BEGINS_WITHIN: Final = 1.0
"""Seconds after which a turn that was claimed and is not in the log is not waited for: its process died in between."""
_LOOKS: Final = 20
_FAILURES: Final = 32
"""How many failed turns of a key are looked at: one that has more protects from nothing any more."""

_log = structlog.stdlib.get_logger("shieldmesh.turn_log")


async def earlier(log: TurnLog, owner: Owner, turn: str, request: chat_pb2.ChatRequest) -> str:
    """The turn that runs or ran for the request's key; "" when the key stands for this one from now on.

    It is that, too, when nobody can tell: such a log keeps no turns that could be attached to either.

    Raises:
        InvalidArgumentError: the key is none, or another request came with it.
    """
    key = request.idempotency_key
    if not ID_PATTERN.fullmatch(key):
        message = "the key is not one: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -"
        raise InvalidArgumentError(message, field="idempotency_key")
    asked = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    # A turn's id can come twice, when gRPC itself repeats a call: that this claim was the first, only a mark can tell.
    mark = asked + secrets.token_bytes(16)
    name = _name(*(("t", owner.tenant) if owner.tenant else ("s", owner.session)), key)
    try:
        for _ in range(_FAILURES):
            claim = await log.claim(name, turn, mark)
            if claim.digest == mark:
                break
            if not claim.digest.startswith(asked):
                message = "another request came with this key before: send the same one, or another key"
                raise InvalidArgumentError(message, reason="IDEMPOTENCY_KEY_REUSED", field="idempotency_key")
            record = await _begun(log, claim.turn)
            if record is not None and record.error is None:
                return claim.turn
            name = _name(name, claim.turn)
    except UnavailableError:
        _log.warning("a key stands for no turn: the turn log cannot tell whether it stood for another one")
    return ""


async def _begun(log: TurnLog, turn: str) -> Record | None:
    """What is known of a turn that somebody claimed, and may be about to begin."""
    for _ in range(_LOOKS):
        record = await log.find(turn)
        if record is not None:
            return record
        await asyncio.sleep(_BEGINS_WITHIN / _LOOKS)
    return None


def _name(*parts: str) -> str:
    """One name for all parts together, which tells nobody what they were."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()
