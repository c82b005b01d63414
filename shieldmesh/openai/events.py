"""Server-sent events, cut out of the bytes of a response. Pure.

It looks at data alone, at bytes and not at text, and gives all events of one read together: httpx-sse, which is a fine
library otherwise, decodes character by character, gives one event at a time, and lets a line grow without end.
"""

from typing import Final

LONGEST_EVENT: Final = 4 * 1024 * 1024
"""Bytes of one event."""


class EventTooLongError(Exception):
    """An event does not end."""


class EventParser:
    """Gives the data of events, whatever the reads cut; see the HTML standard, "Interpreting an event stream"."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, received: bytes) -> list[bytes]:
        """The data of the events that end in `received`.

        Raises:
            EventTooLongError: an event is longer than LONGEST_EVENT.
        """
        events = [event for line in self._lines(received) if (event := self._line(line)) is not None]
        if len(self._rest) + self._size > LONGEST_EVENT:
            raise EventTooLongError
        return events

    def _lines(self, received: bytes) -> list[bytes]:
        """The lines that are whole. They end with CR, LF or both: what follows a CR at the end of a read decides."""
        if not self._rest and received.endswith(b"\n") and b"\r" not in received:
            return received.split(b"\n")[:-1]  # most servers send whole events
        self._rest += received
        end = len(self._rest) - self._rest.endswith(b"\r")
        if self._rest.find(b"\n", self._seen) < 0 and self._rest.find(b"\r", self._seen, end) < 0:
            self._seen = end
            return []
        whole, rest = bytes(self._rest[:end]), self._rest[end:]
        if b"\r" in whole:
            whole = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, last = whole.split(b"\n")
        self._rest = bytearray(last) + rest
        self._seen = len(last)
        return lines

    def _line(self, line: bytes) -> bytes | None:
        """The event that ends with this line, if one does."""
        if line.startswith(b"data:") or line == b"data":
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            self._data.append(value)
            self._size += len(value)
        elif not line and self._data:
            event = b"\n".join(self._data)
            self._data.clear()
            self._size = 0
            return event
        return None
