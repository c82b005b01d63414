"""Reads Redis for many at once: what is asked while an answer is under way goes out in one round trip."""

import asyncio
from typing import Any, Final

from services.orchestrator.redis_client import FAILURES, Client, Command, together

AT_ONCE: Final = 256
"""Questions in a round trip."""


class Asking:
    """One connection's worth of questions, however many ask."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []  # Any: answers have many types
        self._work = asyncio.Event()

    async def ask(self, *command: str | bytes | int) -> Any:  # noqa: ANN401  # as the command answers
        """The answer to a command that may be sent twice.

        Raises:
            FAILURES: there is none.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()  # Any: see above
        self._waiting.append((command, answer))
        self._work.set()
        return await answer

    async def run(self) -> None:
        """Asks what is to be asked, for ever."""
        while True:
            await self._work.wait()
            asked, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            if not self._waiting:
                self._work.clear()
            await self._send([(command, answer) for command, answer in asked if not answer.done()])

    async def _send(self, asked: list[tuple[Command, asyncio.Future[Any]]]) -> None:  # Any: see above
        said: list[Any]  # Any: see above
        try:
            said = await together(self._client, [command for command, _ in asked])
        except FAILURES as error:
            said = [error] * len(asked)
        for (_, answer), each in zip(asked, said, strict=True):
            if answer.done():  # who asked may have been cancelled
                continue
            if isinstance(each, FAILURES):
                answer.set_exception(each)
            else:
                answer.set_result(each)
