"""The shield `classifier`: what a text classifier's labels mean to the policy."""

from collections.abc import Sequence

from shieldmesh.profile.options import ClassifierOptions

from .model import Seen
from .models.files import Loaded, ModelError


class LabelledModel:
    """Tells the labels that a classifier is sure of as kinds of findings."""

    def __init__(self, loaded: Loaded, options: ClassifierOptions) -> None:
        """Gives the labels their meaning.

        Raises:
            ModelError: the classifier does not know one of them.
        """
        for label in options.labels:
            if label not in loaded.labels:
                message = f"the model has no label {label!r}: expected some of {', '.join(loaded.labels)}"
                raise ModelError("labels", message)
        self._kinds = [
            (place, options.labels[label]) for place, label in enumerate(loaded.labels) if label in options.labels
        ]
        self._scores = loaded.scores
        self._min_score = options.min_score

    async def look(self, text: str) -> Sequence[Seen]:
        """See `Look`. Of several labels with the same meaning, the one with the highest score counts."""
        scores = await self._scores.ask(text)
        best: dict[str, float] = {}
        for place, kind in self._kinds:
            best[kind] = max(best.get(kind, 0.0), scores[place])
        return [Seen(kind, score) for kind, score in best.items() if score >= self._min_score]
