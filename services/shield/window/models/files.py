"""Models from the directory that the service is allowed to load them from, each loaded once."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from services.shield.window.batching import Batcher

ONNX: Final = "model.onnx"
SKOPS: Final = ".skops"


class ModelError(Exception):
    """A model cannot be used.

    Attributes:
        option: Which option of the shield is wrong.
        message: Why, and what to do, for those who wrote the policy.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option
        self.message = message


class Classifier(Protocol):
    """A text classifier. Called in threads."""

    @property
    def labels(self) -> Sequence[str]:
        """What it tells apart."""
        ...

    def __call__(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """The score of each label, 0 to 1, for each text."""
        ...


class Loaded(NamedTuple):
    """A classifier that is at work for all who ask it."""

    labels: Sequence[str]
    scores: Batcher[Sequence[float]]
    """The score of each label for a window."""


class ModelFiles:
    """The classifiers of a directory. Safe to use from threads."""

    def __init__(self, directory: Path | None) -> None:
        """None means that there is no such directory."""
        self._directory = None if directory is None else directory.resolve()
        self._loaded: dict[Path, Loaded] = {}
        self._guard = threading.Lock()

    def load(self, path: str) -> Loaded:
        """The classifier at a path below the directory; takes as long as it takes when it was not loaded before.

        Raises:
            ModelError: there is none that can be used.
        """
        place = self._place(path)
        with self._guard:
            loaded = self._loaded.get(place)
            if loaded is None:
                classifier = _load(place, path)
                loaded = self._loaded[place] = Loaded(classifier.labels, Batcher(classifier, name=path))
        return loaded

    def _place(self, path: str) -> Path:
        if self._directory is None:
            raise ModelError(
                "path", "this shield service has no models: set SHIELDMESH_SHIELD_MODELS to their directory"
            )
        try:
            place = (self._directory / path).resolve()
        except (OSError, ValueError, RuntimeError):
            raise ModelError("path", "it is not a path") from None
        if not place.is_relative_to(self._directory):
            raise ModelError(
                "path", "it leads out of the service's directory of models: models lie below SHIELDMESH_SHIELD_MODELS"
            )
        return place


def _load(place: Path, path: str) -> Classifier:
    """Imports what loads a model when there is one to load: onnxruntime and scikit-learn take their time."""
    if (place / ONNX).is_file():
        from .onnx import load_onnx  # noqa: PLC0415

        return load_onnx(place)
    if place.is_file() and place.suffix == SKOPS:
        try:
            from .sklearn import load_skops  # noqa: PLC0415
        except ImportError:
            raise ModelError("path", "scikit-learn models need two packages more: install shieldmesh[models]") from None
        return load_skops(place)
    what = "it does not exist" if not place.exists() else f"expected a directory with {ONNX}, or a {SKOPS} file"
    raise ModelError("path", f"{path!r} holds no model: {what}")
