"""What the turn log calls things in Redis. All that belongs to a turn is one key, so that Cluster can hold it."""

from typing import Final

BEGIN: Final = "0-1"
"""The entry of a turn's stream that says who writes it and whose it is."""
END: Final = f"{2**63}-0"
"""The entry that says how the turn ended: behind every event that there can be."""
_NEWS: Final = "sm:news:"


def stream(turn: str) -> str:
    """The events of a turn."""
    return f"sm:turn:{{{turn}}}"


def news(turn: str) -> str:
    """The channel that says that a turn has news."""
    return f"{_NEWS}{turn}"


def turn_of(channel: str) -> str:
    """The turn whose channel it is."""
    return channel.removeprefix(_NEWS)


def lease(process: str) -> str:
    """Holds the epoch of a process that is alive."""
    return f"sm:writer:{process}"


def calls(process: str) -> str:
    """What others wish of a process; also the channel that says that there is something."""
    return f"sm:calls:{process}"


def claim(key: str) -> str:
    """What an idempotency key stands for."""
    return f"sm:claim:{key}"
