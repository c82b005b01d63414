"""The engines behind what is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pydoc_data.topics import topics
from typing import Any


@dataclass(frozen=True, slots=True)
class Engine:
    """A script: so many tokens of English prose (Python's own reference), at so many a second."""

    tokens: int
    pace: float = 0.0
    """0: as fast as they are read, each on its own."""
    real: bool = False
    """No script but the model that the project ships, as fast as it is."""

    @property
    def words(self) -> Sequence[str]:
        """The tokens, each but the first with the blank before it."""
        first, *rest = _prose()[: self.tokens]
        return [first, *(f" {word}" for word in rest)]

    @property
    def options(self) -> Mapping[str, Any]:  # Any: YAML
        """As models.yaml says it of a script; of the real model, as requests say it."""
        if self.real:
            return {"ignore_eos": True}
        return {"text": "".join(self.words), "pace": self.pace}


@cache
def _prose() -> Sequence[str]:
    return "".join(topics.values()).split()
