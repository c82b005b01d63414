"""Texts made of parts."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Final, TypeAlias

Maker: TypeAlias = Callable[[random.Random], Iterator[str]]
"""Makes the texts of a family."""

_MOST: Final = 600


def filled(forms: Sequence[str], parts: Sequence[object]) -> Maker:
    """Every form with every part in the place of its braces, and some of these in a row, as people write."""

    def make(chance: random.Random) -> Iterator[str]:
        texts = [form.format(part) for form, part in product(forms, parts)]
        chance.shuffle(texts)
        yield from texts[:_MOST]
        for _ in range(_MOST // 4):
            yield " ".join(chance.sample(texts, 2))

    return make
