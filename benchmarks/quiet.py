"""What watches services start that are measured."""


class Pids:
    """Keeps the services' process ids and lets their logs go; see `shieldmesh.cli.local.mesh.Reporter`."""

    def __init__(self) -> None:
        self.pids: dict[str, int] = {}

    def line(self, service: str, line: str) -> None:
        """See `Reporter`."""

    def ready(self, service: str, pid: int, seconds: float) -> None:
        """See `Reporter`."""
        del seconds
        self.pids[service] = pid

    def note(self, text: str) -> None:
        """See `Reporter`."""
