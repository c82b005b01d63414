"""Classifiers of scikit-learn, from files of skops: a pickle could run anything, these hold types that are known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import skops.io as skops

from .files import ModelError


def load_skops(path: Path) -> "SklearnClassifier":
    """The classifier in a file.

    Raises:
        ModelError: it cannot be used, or would need types that skops does not trust.
    """
    try:
        unknown = [str(each) for each in skops.get_untrusted_types(file=path)]
    except Exception:  # noqa: BLE001  # a broken file fails in many ways
        raise ModelError("path", "it is not a file of skops") from None
    if unknown:
        raise ModelError("path", f"it holds types that are not trusted: {', '.join(sorted(unknown)[:5])}")
    try:
        classifier = SklearnClassifier(skops.load(path, trusted=[]))
        classifier(["A text."])
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever is in the file
        raise ModelError("path", f"it is no classifier of texts that works here ({type(error).__name__})") from None
    return classifier


class SklearnClassifier:
    """A pipeline from texts to probabilities; see `Classifier`."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401  # scikit-learn has no types
        """Takes what was in the file.

        Raises:
            ModelError: it tells no probabilities.
        """
        if not hasattr(model, "predict_proba"):
            raise ModelError(
                "path", "its model tells no probabilities (predict_proba): calibrate it, or take another one"
            )
        self._model = model
        self.labels = [str(each) for each in model.classes_]

    def __call__(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """The score of each label for each text."""
        return cast("Sequence[Sequence[float]]", self._model.predict_proba(list(texts)).tolist())
