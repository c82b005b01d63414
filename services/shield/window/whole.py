"""A model as a shield that looks at a text once, when it is complete."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final

from services.shield.shield import Progress, Rules, ShieldError, SlowLane, SlowShield, lasting

from .model import Look
from .shield import look_at
from .windows import Part

MAX_CHARACTERS: Final = 100_000
"""Code points of a text that a model is shown at once; a longer one is a failure of the shield."""


class WholeTextShield(SlowShield):
    """Has a model look at each text at its end."""

    def __init__(self, rules: Rules, look: Look) -> None:
        super().__init__(replace(rules, kind="whole"))
        self._look = look

    def lane(self) -> AbstractAsyncContextManager[SlowLane]:
        """A fresh view of a new text."""
        return lasting(_WholeTextLane(self._look))


class _WholeTextLane:
    def __init__(self, look: Look) -> None:
        self._look = look
        self._pieces: list[str] = []
        self._seen = 0

    async def feed(self, text: str, *, end: bool) -> Progress:
        """Takes the next piece of the text; what is known comes with the last."""
        self._seen += len(text)
        if self._seen > MAX_CHARACTERS:
            self._pieces.clear()
            raise ShieldError("TEXT_TOO_LONG")
        self._pieces.append(text)
        whole = "".join(self._pieces) if end else ""
        if not end or not whole.strip():
            return Progress((), self._seen if end else 0, self._seen if end else 0)
        findings = await look_at(self._look, [Part(whole, 0)])
        return Progress(tuple(findings), self._seen, self._seen)
