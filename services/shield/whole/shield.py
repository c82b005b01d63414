"""A check on a complete text as a shield: gathers the text, and looks at it in a thread when it ends."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from services.shield.shield import Finding, Progress, Rules, ShieldError, SlowLane, SlowShield, lasting
from shieldmesh import context

MAX_CHARACTERS: Final = 2_000_000
"""Code points of a text; a longer one is a failure of the shield, about which its policy decides."""


class Check(Protocol):
    """Looks at a complete text. Immutable; called in threads, and in time that the text's length bounds."""

    def __call__(self, text: str) -> Iterable[Finding]:
        """What there is to find.

        Raises:
            ShieldError: the text cannot be checked.
        """
        ...


class WholeShield(SlowShield):
    """Runs a check on each text at its end."""

    def __init__(self, rules: Rules, check: Check) -> None:
        super().__init__(rules)
        self._check = check

    def lane(self) -> AbstractAsyncContextManager[SlowLane]:
        """A fresh view of a new text."""
        return lasting(_WholeLane(self._check))


class _WholeLane:
    def __init__(self, check: Check) -> None:
        self._check = check
        self._pieces: list[str] = []
        self._seen = 0

    async def feed(self, text: str, *, end: bool) -> Progress:
        """Takes the next piece of the text; what is known comes with the last."""
        self._seen += len(text)
        if self._seen > MAX_CHARACTERS:
            self._pieces.clear()
            raise ShieldError("TEXT_TOO_LONG")
        self._pieces.append(text)
        if not end:
            return Progress((), 0, 0)
        whole = "".join(self._pieces)
        self._pieces.clear()
        findings = await context.run_in_thread(self._check, whole)
        return Progress(tuple(findings), self._seen, self._seen)
