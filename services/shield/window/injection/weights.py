"""The model: a weight for each bucket and a bias, which `scripts/train_injection` learns."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from .features import Buckets, features

WEIGHTS: Final = Path(__file__).with_name("weights.npz")


class InjectionModel:
    """Scores windows. Deterministic: the same window has the same score, in any batch."""

    def __init__(self, weights: npt.NDArray[np.int8], scale: float, bias: float) -> None:
        """`scale` is what a weight of 1 stands for."""
        self._weights = weights.astype(np.int64)
        self._scale = scale
        self._bias = bias

    def __call__(self, texts: Sequence[str]) -> Sequence[float]:
        """The score of each of the texts."""
        return [self.score(text) for text in texts]

    def score(self, text: str) -> float:
        """How sure it is, 0 to 1, that the text wants to talk a model out of its instructions."""
        return self.score_of(features(text))

    def score_of(self, buckets: Buckets) -> float:
        """The score of a text that fills these buckets."""
        if not len(buckets):
            return 0.0
        total = int(self._weights[buckets].sum())
        return 1.0 / (1.0 + math.exp(-(self._scale * total / math.sqrt(len(buckets)) + self._bias)))


def load() -> InjectionModel:
    """The model that belongs to this code."""
    with np.load(WEIGHTS, allow_pickle=False) as file:
        weights = cast("npt.NDArray[np.int8]", file["weights"])
        return InjectionModel(weights, float(file["scale"]), float(file["bias"]))
