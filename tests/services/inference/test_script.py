"""Scripts are cut and ended before they are played."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.backend import FinishReason
from services.inference.script import Cut, cut, until_end

CUTS = st.sampled_from(["words", "characters", "random"])


@settings(max_examples=60)
@given(text=st.text(), how=CUTS, seed=st.integers(), longest=st.integers(1, 9))
def test_the_pieces_of_any_text_join_to_it_again(text: str, how: Cut, seed: int, longest: int) -> None:
    """No cut loses, adds or moves a character, and none makes an empty piece."""
    pieces = cut(text, how, seed=seed, longest=longest)
    assert "".join(pieces) == text
    assert all(pieces)


def test_random_cuts_repeat_with_their_seed() -> None:
    """One seed cuts one text one way, another seed another way."""
    text = "x" * 200
    assert cut(text, "random", seed=1) == cut(text, "random", seed=1)
    assert cut(text, "random", seed=1) != cut(text, "random", seed=2)
    assert max(map(len, cut(text, "random", seed=1, longest=3))) == 3


@settings(max_examples=60)
@given(text=st.text("ab ", max_size=30), stop=st.lists(st.text("ab", min_size=1, max_size=3), max_size=3), how=CUTS)
def test_a_stop_text_ends_the_output_before_it_wherever_it_is_cut(text: str, stop: list[str], how: Cut) -> None:
    """What is sent is the text up to its earliest stop text, also when that spans pieces."""
    sent, reason = until_end(cut(text, how), stop=stop)
    ends = [text.find(one) for one in stop if one in text]
    assert "".join(sent) == text[: min(ends, default=len(text))]
    assert reason is FinishReason.STOP


def test_max_tokens_limits_the_pieces() -> None:
    """More pieces than allowed end with LENGTH, exactly as many with STOP."""
    assert until_end(["a", "b", "c"], max_tokens=2) == (["a", "b"], FinishReason.LENGTH)
    assert until_end(["a", "b"], max_tokens=2) == (["a", "b"], FinishReason.STOP)
