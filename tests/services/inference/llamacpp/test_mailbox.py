"""A thread's items reach the loop whole and in order."""

import asyncio
import threading

from services.inference.llamacpp.mailbox import Mailbox


async def test_everything_a_thread_puts_in_comes_out_in_order() -> None:
    """Nothing is lost between a fast thread and the loop, and the end is seen after the last item."""
    mailbox = Mailbox[int]()

    def produce() -> None:
        for number in range(2000):
            mailbox.put(number)
        mailbox.end()

    thread = threading.Thread(target=produce)
    thread.start()
    taken: list[int] = []
    async with asyncio.timeout(10):
        while batch := await mailbox.take():
            taken += batch
    thread.join()
    assert taken == list(range(2000))


async def test_what_gathered_comes_in_one_batch() -> None:
    """Items that were put in before the reader looked are taken together."""
    mailbox = Mailbox[str]()
    mailbox.put("a")
    mailbox.put("b")
    assert await mailbox.take() == ["a", "b"]
    mailbox.put("c")
    mailbox.end()
    assert await mailbox.take() == ["c"]
    assert await mailbox.take() == []


async def test_a_closed_mailbox_keeps_nothing() -> None:
    """When the reader has gone, what is put in is dropped."""
    mailbox = Mailbox[str]()
    mailbox.put("a")
    mailbox.close()
    mailbox.put("b")
    mailbox.end()
    assert mailbox.closed
    assert await mailbox.take() == []
