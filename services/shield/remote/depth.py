"""How deep remote shields have asked one another: the count travels with the call, and circles end at its limit."""

from dataclasses import replace
from types import MappingProxyType
from typing import Final

import structlog

from services.shield.shield import ShieldError
from shieldmesh import context
from shieldmesh.context import RequestContext

VALUE: Final = "shield-depth"
"""The session value that holds the count."""
MAX_DEPTH: Final = 4
"""Services that may be asked one behind the other."""
TOO_DEEP: Final = "SHIELD_TOO_DEEP"

_log = structlog.stdlib.get_logger("shieldmesh.shield")


def deeper() -> RequestContext:
    """The current context, one service deeper.

    Raises:
        ShieldError: that is too deep.
    """
    ours = context.current()
    depth = ours.values.get(VALUE, "0")
    if depth not in map(str, range(MAX_DEPTH)):
        _log.error("remote shields ask one another in a circle, or too many in a row", most=MAX_DEPTH)
        raise ShieldError(TOO_DEEP)
    return replace(ours, values=MappingProxyType({**ours.values, VALUE: str(int(depth) + 1)}))
