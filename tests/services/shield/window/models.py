"""Models whose answers are known beforehand."""

import asyncio
import hashlib
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, get_args

from hypothesis import strategies as st

from services.shield.shield import Action, Rules
from services.shield.window.model import Seen
from services.shield.window.shield import WindowShield
from shieldmesh.profile.options import Window
from shieldmesh.profile.options.window import Unit


def _window(unit: Unit, size: int, overlap: int, longest: int) -> Window:
    return Window(unit=unit, size=size, overlap=min(overlap, size - 1), longest=longest)


UNITS: st.SearchStrategy[Unit] = st.sampled_from(get_args(Unit))
WINDOWS = st.builds(_window, UNITS, st.integers(1, 5), st.integers(0, 4), st.integers(32, 60))
"""Windows of all forms, small enough to be many in a short text."""


def rules(name: str, action: Action, **fields: Any) -> Rules:  # fields of Rules
    """Rules of a window shield, with a timeout that no test comes near."""
    given: dict[str, Any] = {
        "action_by_kind": dict[str, Action](),
        "fails_open": False,
        "timeout": 60.0,
        "kind": "window",
    } | fields
    return Rules(name, action, **given)


class Fickle:
    """Finds fault with windows for no reason but their whole text, after a while.

    A model of which every window matters: one that is cut differently has another score.
    """

    def __init__(self, seed: int, pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)) -> None:
        """The seed gives it its taste."""
        self._seed = seed
        self._pause = pause

    async def look(self, text: str) -> Sequence[Seen]:
        """See `Look`."""
        await self._pause()
        taste = hashlib.sha256(f"{self._seed} {text}".encode()).digest()
        return [Seen("odd", taste[1] / 255)] if taste[0] < 80 else []

    def shield(self, name: str, action: Action, window: Window, **fields: Any) -> WindowShield:
        """A shield that asks it."""
        return WindowShield(rules(name, action, **fields), self.look, window)


class Gate:
    """A model that waits until it is let go, and remembers its batches."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()

    def __call__(self, texts: Sequence[str]) -> Sequence[int]:
        """The length of each text."""
        self.batches.append(list(texts))
        self.threads.add(threading.current_thread().name)
        assert self.open.wait(30)
        if any(text == "bad" for text in texts):
            raise RuntimeError("a secret")
        return [len(text) for text in texts]


def pauses(seed: int) -> Callable[[], Awaitable[None]]:
    """A pause of as many turns of the loop as chance has it."""
    chance = random.Random(seed)

    async def pause() -> None:
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)

    return pause
