"""Ctrl-C during a turn."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE

from tests.shieldmesh.client.scripted import ScriptedChat, delta, serving, started

LIMIT = 60.0
"""Seconds after which a test that hangs fails."""


async def test_ctrl_c_cancels_the_turn_and_says_so() -> None:
    """The call ends at the gateway, and the program with exit code 130 and a sentence."""
    server = ScriptedChat([started(), delta(2, "Hel\n")], wait=True)
    async with serving(server) as url, asyncio.timeout(LIMIT):
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
