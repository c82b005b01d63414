"""Characters that show nothing, and with which text can be smuggled past readers or turned around before them."""

from collections.abc import Iterator
from typing import Final

from services.shield.matching.automaton import from_regex
from services.shield.matching.pattern import Pattern
from shieldmesh.profile.options import InvisibleKind, InvisibleOptions

MAX_RUN: Final = 256
"""Code points that are found as one; a longer run is several."""

_EMOJI: Final = "\u00a9\u00ae\u203c-\u3299\ufe0f\U0001f000-\U0001fbff"
_RIGHT_TO_LEFT: Final = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
_JOINING: Final = "\u0590-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af"
_TAGS: Final = "\U000e0000-\U000e007f"
_FLAG: Final = "\U0001f3f4"
_SELECTORS: Final = "\u180b-\u180d\ufe00-\ufe0f\U000e0100-\U000e01ef"

_FORMS: Final[dict[InvisibleKind, tuple[tuple[str, str], ...]]] = {
    # Each form beside what stands before it where it has its use.
    "zero_width": (
        ("[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2064\u206a-\u206f\u3164\ufeff\uffa0]", ""),
        ("[\u200c\u200d]", _EMOJI + _JOINING),
        ("[\u061c\u200e\u200f]", _RIGHT_TO_LEFT),
    ),
    "bidi_control": (("[\u202a-\u202e\u2066-\u2069]", ""),),
    "tag_characters": ((f"[{_TAGS}]", _FLAG + _TAGS), (f"{_FLAG}[{_TAGS}]{{8}}[{_TAGS}]", "")),
    "variation_selectors": ((f"[{_SELECTORS}][{_SELECTORS}]", ""),),
}


def patterns(options: InvisibleOptions) -> Iterator[Pattern]:
    """The patterns that the options ask for.

    Left alone are joiners behind emoji and in the scripts that need them, marks of direction behind letters that run
    from right to left, the tags of a flag, and a single variation selector. Not found: text hidden in those, one
    character at a time.
    """
    for kind in options.kinds:
        for form, needed_behind in _FORMS[kind]:
            regex = from_regex(f"{form}[{_run(form)}]*")
            yield Pattern(kind, regex, max_length=MAX_RUN, left=needed_behind)


def _run(form: str) -> str:
    """What the form's run goes on with: the inside of its last character class."""
    return form[form.rindex("[") + 1 : -1]
