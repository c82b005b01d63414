"""From texts to weights: logistic regression over hashed features, whose weights become whole numbers."""

import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import SGDClassifier

from services.shield.window.injection.features import BUCKETS, Buckets, features
from services.shield.window.injection.weights import InjectionModel
from services.shield.window.windows import Windows
from shieldmesh.profile.options import InjectionOptions

SHORT: Final = 250
"""Attacks up to this long are also learned in the middle of other text, as they come in documents."""
PER_ATTACK: Final = 6
"""Windows of a long attack that are learned."""
PER_HARMLESS: Final = 16
CAUTION: Final = 4.0
"""How much more a false alarm counts than an attack that is missed: a text has many windows, and each can be one."""
ROUNDS: Final = 3
Families = Mapping[str, Sequence[str]]


class Example(NamedTuple):
    """A window, the text that it is of, and how much it counts."""

    window: str
    text: int
    weight: float


class Learned(NamedTuple):
    """A model as it is stored."""

    weights: "np.ndarray[tuple[int], np.dtype[np.int8]]"
    scale: float
    bias: float

    @property
    def model(self) -> InjectionModel:
        """The model as it is used."""
        return InjectionModel(self.weights, self.scale, self.bias)


@cache
def _buckets(window: str) -> Buckets:
    """The features of a window, which many models are asked about."""
    return features(window)


def windows(text: str) -> list[str]:
    """The windows that the shield cuts a text into."""
    parts = Windows(InjectionOptions().window).feed(text, end=True)
    return [part.text for part in parts if not part.text.isspace()]


def highest(model: InjectionModel, text: str) -> float:
    """The score of a text: that of the window that looks worst."""
    return max((model.score_of(_buckets(part)) for part in windows(text)), default=0.0)


def learn(attacks: Families, harmless: Families, *, seed: int) -> Learned:
    """Learns to tell the two apart; deterministic."""
    chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
    bad = _examples(_in_documents(attacks, harmless, chance), PER_ATTACK, chance)
    good = _examples(harmless, PER_HARMLESS, chance)
    learned = _fit(bad, good, seed)
    for _ in range(ROUNDS - 1):
        # Not every window of a long attack is one: those that look least like it are left out.
        learned = _fit(_telling(bad, learned.model), good, seed)
    return learned


def _in_documents(attacks: Families, harmless: Families, chance: random.Random) -> Families:
    around = [
        part
        for texts in harmless.values()
        for text in chance.sample(texts, min(40, len(texts)))
        for part in windows(text)
    ]
    around = [part.strip() for part in around if len(part) <= 400]
    families = {name: list(texts) for name, texts in attacks.items()}
    for texts in families.values():
        for text in [text for text in texts if len(text) <= SHORT]:
            before, after = (chance.choice(around) if chance.random() < 0.7 else "" for _ in range(2))
            texts.append(chance.choice(["\n", " ", "\n\n"]).join(part for part in (before, text, after) if part))
    return families


def _examples(families: Families, most: int, chance: random.Random) -> list[Example]:
    """Windows of all families; large families count more than small ones, but not in proportion."""
    examples: list[Example] = []
    number = 0
    for texts in families.values():
        for text in texts:
            number += 1
            parts = windows(text)
            chosen = parts if len(parts) <= most else chance.sample(parts, most)
            examples += [Example(part, number, 1.0 / (len(chosen) ** 0.5 * len(texts) ** 0.5)) for part in chosen]
    return examples


def _telling(bad: Sequence[Example], model: InjectionModel) -> list[Example]:
    scores = [model.score_of(_buckets(each.window)) for each in bad]
    best: dict[int, float] = {}
    for each, score in zip(bad, scores, strict=True):
        best[each.text] = max(best.get(each.text, 0.0), score)
    return [each for each, score in zip(bad, scores, strict=True) if score >= min(0.5, best[each.text])]


def _fit(bad: Sequence[Example], good: Sequence[Example], seed: int) -> Learned:
    examples = [*bad, *good]
    rows = [_buckets(each.window) for each in examples]
    lengths = np.array([len(row) for row in rows])
    values = np.repeat(1.0 / np.sqrt(np.maximum(lengths, 1)), lengths)
    matrix = csr_matrix(
        (values, np.concatenate(rows).astype(np.int32), np.concatenate([[0], np.cumsum(lengths)])),
        shape=(len(rows), BUCKETS),
    )
    labels = np.array([1] * len(bad) + [0] * len(good))
    weights = np.array([each.weight for each in examples])
    for label, share in ((0, CAUTION), (1, 1.0)):
        weights[labels == label] *= share * len(examples) / (1 + CAUTION) / weights[labels == label].sum()
    model = SGDClassifier(loss="log_loss", alpha=2e-6, max_iter=15, tol=1e-4, average=True, random_state=seed)
    model.fit(matrix, labels, sample_weight=weights)
    return _whole_numbers(model.coef_[0], float(model.intercept_[0]))


def _whole_numbers(weights: np.ndarray, bias: float) -> Learned:
    scale = float(np.quantile(np.abs(weights[weights != 0]), 0.9995)) / 127
    return Learned(np.clip(np.round(weights / scale), -127, 127).astype(np.int8), scale, bias)
