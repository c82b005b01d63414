"""The logs of several processes as one readable stream."""

from collections import deque
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from shieldmesh.cli.terminal import COLOURS, harmless

_LAST: Final = 30
_WIDTH: Final = max(map(len, COLOURS))


class ReadableLog:
    """For people: each line behind its service's name, in the service's colour on a terminal.

    Args:
        console: Where it goes.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, service: str, line: str) -> None:
        """A service logged a line."""
        self._console.print(Text(f"{service:<{_WIDTH}} │ ", style=COLOURS[service]) + Text(harmless(line)))

    def ready(self, service: str, pid: int, seconds: float) -> None:
        """A service is ready, so long after its start."""
        colour = COLOURS[service]
        self._console.print(
            f"[bold green]✓[/] [{colour}]{service:<{_WIDTH}}[/] ready in {seconds:.2f} s  [dim]pid {pid}[/]"
        )

    def note(self, text: str) -> None:
        """Something else happened."""
        self._console.print(f"[bold]●[/] {escape(text)}")


class QuietLog(ReadableLog):
    """Keeps what the services log to itself, until somebody asks for the end of it.

    Args:
        console: Where everything else goes, and the end when it is asked for.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._last: deque[tuple[str, str]] = deque(maxlen=_LAST)

    def line(self, service: str, line: str) -> None:
        """A service logged a line."""
        self._last.append((service, line))

    def show_last(self) -> None:
        """Prints the last lines."""
        for service, line in self._last:
            super().line(service, line)


class JsonLog(ReadableLog):
    """For programs: the services' own JSON lines as they are; everything else goes to the console of the other."""

    def __init__(self, out: Console, notes: Console) -> None:
        super().__init__(notes)
        self._out = out

    def line(self, service: str, line: str) -> None:  # noqa: ARG002  # the line names its service itself
        """A service logged a line."""
        self._out.file.write(f"{line}\n")
        self._out.file.flush()
