"""The shield `injection`: scores of the model as findings."""

from collections.abc import Sequence
from functools import cache

from services.shield.window.batching import Batcher
from services.shield.window.model import Look, Seen
from shieldmesh.profile.options import INJECTION_KINDS, InjectionOptions

from .weights import load

(KIND,) = INJECTION_KINDS


@cache
def _scores() -> Batcher[float]:
    """The model at work, for all who ask."""
    return Batcher(load(), name="injection")


def look(options: InjectionOptions) -> Look:
    """What looks at windows by these options."""
    scores = _scores()

    async def look_at(text: str) -> Sequence[Seen]:
        score = await scores.ask(text)
        return [Seen(KIND, score)] if score >= options.min_score else []

    return look_at
