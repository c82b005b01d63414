"""How good the model is on what it has not seen: each family is held out once, with its kin."""

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from .learning import Families, highest, learn

KIN: Final = (
    {"jailbreaks seen in the wild", "personas (DAN, AutoDAN)", "giskard's collection"},
    {"goal hijacking (PromptInject)", "giskard's collection", "made: overrides"},
    {"system prompt extraction", "made: extraction"},
    {"tool results (agent-injection-bench)", "coding agents", "made: deeds in documents"},
    {"injection in documents", "made: deeds in documents"},
)
"""Families that share texts or forms: when one of such a group is held out, the others are, too."""
FIFTH: Final = 5
FOLDS: Final = 6
"""Models that are trained; each family is held out of one, with a few others."""
THRESHOLDS: Final = (0.5, 0.7, 0.9)


class Held(NamedTuple):
    """A family that was held out: how many texts it has, and which share of them reaches each threshold."""

    name: str
    texts: int
    shares: Sequence[float]


def held_out(attacks: Families, harmless: Families, *, seed: int) -> tuple[list[Held], list[Held]]:
    """The families of attacks, and those of harmless texts, each scored by a model that never saw it."""
    found: dict[str, Held] = {}
    false: dict[str, Held] = {}
    for fold in range(FOLDS):
        bad, good = list(attacks)[fold::FOLDS], list(harmless)[fold::FOLDS]
        out = {*bad, *(name for kin in KIN if kin & set(bad) for name in kin)}
        model = learn(
            {name: texts for name, texts in attacks.items() if name not in out},
            {name: texts for name, texts in harmless.items() if name not in good},
            seed=seed,
        ).model
        found |= {name: _held(name, [highest(model, text) for text in attacks[name]]) for name in bad}
        false |= {name: _held(name, [highest(model, text) for text in harmless[name]]) for name in good}
    return [found[name] for name in attacks], [false[name] for name in harmless]


def split(attacks: Families, harmless: Families, *, seed: int) -> tuple[list[Held], list[Held]]:
    """All families, of each of which a fifth was held out."""
    chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
    mixed = [{name: chance.sample(texts, len(texts)) for name, texts in each.items()} for each in (attacks, harmless)]
    known = [{name: texts[1 + len(texts) // FIFTH :] for name, texts in each.items()} for each in mixed]
    model = learn(known[0], known[1], seed=seed).model
    found, false = (
        [
            _held(name, [highest(model, text) for text in texts[: 1 + len(texts) // FIFTH]])
            for name, texts in each.items()
        ]
        for each in mixed
    )
    return found, false


def _held(name: str, scores: Sequence[float]) -> Held:
    return Held(name, len(scores), [sum(score >= least for score in scores) / len(scores) for least in THRESHOLDS])


def table(title: str, families: Sequence[Held]) -> str:
    """The families as a table in Markdown, with the mean over families below."""
    lines = [
        f"| {title} | texts | {' | '.join(f'≥ {least}' for least in THRESHOLDS)} |",
        "|---|---|" + "---|" * len(THRESHOLDS),
    ]
    lines += [
        f"| {each.name} | {each.texts} | {' | '.join(f'{share:.1%}' for share in each.shares)} |" for each in families
    ]
    means = [sum(each.shares[place] for each in families) / len(families) for place in range(len(THRESHOLDS))]
    lines.append(f"| mean of the families | | {' | '.join(f'{mean:.1%}' for mean in means)} |")
    return "\n".join(lines)
