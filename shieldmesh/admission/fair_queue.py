"""A bounded queue that is fair between owners, whoever floods it.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with items of one size: each owner has a line of its own
and a tag, the virtual time at which its first item is due. The earliest tag is served, and moves on by one over the
owner's weight. While two owners have items waiting, they are served in proportion to their weights, to within one item
of each.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(slots=True)
class _Line(Generic[T]):
    """What waits of one owner, by the order of arrival. An empty one remembers what its owner had."""

    weight: int
    tag: float
    items: "OrderedDict[T, int]" = field(default_factory=OrderedDict[T, int])

    @property
    def length(self) -> float:
        """Its length in fair shares."""
        return len(self.items) / self.weight

    @property
    def due(self) -> tuple[float, int]:
        """When its first item is due; among equals the one that came first."""
        return self.tag, next(iter(self.items.values()))


class FairQueue(Generic[T]):
    """Items of many owners. Each operation takes time in proportion to the number of owners that wait."""

    def __init__(self, capacity: int, weights: Mapping[str, int]) -> None:
        """Holds up to `capacity` items; an owner that `weights` does not name has the weight 1."""
        self._capacity = capacity
        self._weights = weights
        self._lines: dict[str, _Line[T]] = {}
        self._length = 0
        self._arrivals = 0
        self._now = 0.0
        """Virtual time: the tag of what was taken last."""

    def __len__(self) -> int:
        return self._length

    def put(self, owner: str, item: T) -> T | None:
        """Adds an item. What has no room then: nothing, the last of the longest line, or the item itself.

        An owner that would still have less than another one, measured in fair shares, takes room from it.
        """
        if self._length < self._capacity:
            self._append(owner, item)
            return None
        longest = max(self._lines.values(), key=lambda line: line.length, default=None)
        mine = self._lines.get(owner) or _Line[T](self._weight(owner), self._now)
        if longest is None or mine.length + 1 / mine.weight >= longest.length:
            return item
        displaced, _ = longest.items.popitem()
        self._length -= 1
        self._append(owner, item)
        return displaced

    def take(self, accepts: Callable[[T], bool]) -> T | None:
        """The next item in turn, if there is one.

        Items that `accepts` refuses are dropped, and cost their owners nothing.
        """
        while self._length:
            line = min((line for line in self._lines.values() if line.items), key=lambda line: line.due)
            item, _ = line.items.popitem(last=False)
            self._length -= 1
            accepted = accepts(item)
            if accepted:
                self._now = line.tag
                line.tag += 1 / line.weight
            self._forget()
            if accepted:
                return item
        return None

    def remove(self, owner: str, item: T) -> bool:
        """Takes an item out of its turn; whether it was there."""
        line = self._lines.get(owner)
        if line is None or item not in line.items:
            return False
        del line.items[item]
        self._length -= 1
        self._forget()
        return True

    def ahead(self, owner: str) -> int:
        """How many of the items that wait would be taken before a new one of this owner."""
        mine = self._lines.get(owner)
        tag = self._now if mine is None else mine.tag + mine.length
        return sum(
            min(len(line.items), int((tag - line.tag) * line.weight) + 1)
            for line in self._lines.values()
            if line.tag <= tag
        )

    def _append(self, owner: str, item: T) -> None:
        line = self._lines.get(owner)
        if line is None:
            line = self._lines[owner] = _Line[T](self._weight(owner), self._now)
        self._arrivals += 1
        line.items[item] = self._arrivals
        self._length += 1

    def _weight(self, owner: str) -> int:
        return self._weights.get(owner, 1)

    def _forget(self) -> None:
        """Drops the lines of which nothing has to be remembered: an owner that comes back would be treated the same."""
        if not self._length:
            self._lines.clear()
            return
        for owner in [owner for owner, line in self._lines.items() if not line.items and line.tag <= self._now]:
            del self._lines[owner]
