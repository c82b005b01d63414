"""Which shields held text, how much, and for how long. Pure: no clock of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shieldmesh.errors import duration
from shieldmesh.v1 import chat_pb2


@dataclass(slots=True)
class _Hold:
    most: int = 0
    seconds: float = 0.0


class Holds:
    """Adds up, over all lanes of a turn, what each shield held."""

    def __init__(self) -> None:
        self._holds: dict[str, _Hold] = {}
        self._since: dict[int, dict[str, float]] = {}

    def note(self, lane: int, holding: Sequence[str], characters: int, now: float) -> None:
        """Notes which shields hold `characters` of a lane from now on. `now`: seconds of a monotonic clock."""
        before = self._since.get(lane)
        if not (holding or before):
            return
        since = {shield: before.pop(shield, now) if before else now for shield in holding}
        for shield in holding:
            hold = self._holds.setdefault(shield, _Hold())
            hold.most = max(hold.most, characters)
        for shield, begun in (before or {}).items():
            self._holds[shield].seconds += now - begun
        self._since[lane] = since

    def all(self, now: float) -> Iterator[chat_pb2.Hold]:
        """Every shield that held text, by name, with what it still holds."""
        for shield, hold in sorted(self._holds.items()):
            open_ = sum(now - lane[shield] for lane in self._since.values() if shield in lane)
            yield chat_pb2.Hold(shield=shield, most_characters=hold.most, time=duration(hold.seconds + open_))
