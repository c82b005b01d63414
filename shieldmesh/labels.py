"""Labels of metrics whose number stays bounded, whatever callers send."""

from typing import Final

OTHER: Final = "other"
"""What all values beyond the bound are called."""
DISTINCT: Final = 100
"""Distinct values of one label, beside `OTHER`. Every combination of labels is a time series of its own."""


class BoundedLabels:
    """Lets the first values of each label through and calls the rest `OTHER`.

    Which values come first depends on the process: sums over a label are right, and so is each value that is shown.
    """

    def __init__(self, distinct: int = DISTINCT) -> None:
        self._distinct = distinct
        self._known: dict[str, set[str]] = {}

    def value(self, label: str, value: str) -> str:
        """`value`, or `OTHER` when the label has its full number of values already."""
        known = self._known.setdefault(label, set())
        if value not in known:
            if len(known) >= self._distinct:
                return OTHER
            known.add(value)
        return value
