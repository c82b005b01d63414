"""Ctrl-C during a turn."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Generator
from contextlib import contextmanager

from tests.shieldmesh.client.scripted import ScriptedChat, delta, serving, started

LIMIT = 60.0
"""Seconds after which a test that hangs fails."""


async def test_ctrl_c_cancels_the_turn_and_says_so() -> None:
    """The call ends at the gateway, and the program with exit code 130 and a sentence."""
    server = ScriptedChat([started(), delta(2, "Hel\n")], wait=True)
    async with serving(server) as url, asyncio.timeout(LIMIT):
        with taking_interrupts():
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "shieldmesh", "chat", "--url", url, "hi"), stdout=PIPE, stderr=PIPE
            )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"Hel\n"
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        await server.ended.wait()
    assert process.returncode == 130
    assert errors.decode() == "✗ cancelled: the turn was stopped\n"


@contextmanager
def taking_interrupts() -> Generator[None]:
    """Lets programs that are started inside the block hear Ctrl-C, also where this one was started to ignore it.

    Shells start what runs in the background so, and whether a signal is ignored is inherited.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
