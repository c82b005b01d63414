"""Texts that must be in some languages, told by py3langid: naive Bayes over runs of letters, for 139 languages."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Protocol

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from services.shield.shield import Finding
from shieldmesh.profile.options import LanguageOptions

_SAMPLES: Final = 8
_SAMPLE: Final = 512
"""Of a long text, so many pieces of so many code points are looked at, evenly spread."""
_NO_LANGUAGE: Final = "zxx"


class Identifier(Protocol):
    """Tells languages."""

    def rank(self, text: str) -> Sequence[tuple[str, float]]:
        """Languages with their probabilities, the most likely first."""
        ...


class LanguageCheck:
    """Finds texts that are in none of the languages. A finding is the whole text."""

    def __init__(self, options: LanguageOptions) -> None:
        """Loads the model, which takes a moment for the first check of a process."""
        self._allowed = frozenset(options.allow)
        self._least = options.min_letters
        self._confidence = options.confidence
        self._identifier = _identifier()

    def __call__(self, text: str) -> Sequence[Finding]:
        """The text, if it is in another language. The score says how much likelier that is than an allowed one."""
        sample = _sample(text)
        if sum(map(str.isalpha, sample)) < self._least:
            return []
        ranked = self._identifier.rank(sample)
        if ranked[0][0] == _NO_LANGUAGE:
            return []
        ours = sum(likely for language, likely in ranked if language in self._allowed)
        other = max((likely for language, likely in ranked if language not in self._allowed), default=0.0)
        score = other / (other + ours) if other > 0 else 0.0
        return [Finding("other_language", 0, len(text), score)] if score >= self._confidence else []


@lru_cache(maxsize=1)
def _identifier() -> Identifier:
    # It has no types of its own; what is used of it is above.
    identifier: Identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)  # pyright: ignore[reportUnknownMemberType]
    return identifier


def _sample(text: str) -> str:
    if len(text) <= _SAMPLES * _SAMPLE:
        return text
    last = len(text) - _SAMPLE
    starts = (number * last // (_SAMPLES - 1) for number in range(_SAMPLES))
    return "\n".join(text[start : start + _SAMPLE] for start in starts)
