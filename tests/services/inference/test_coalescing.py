"""Steps that gathered become fewer and say the same."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.backend import Output, ToolFragment
from services.inference.coalescing import coalesce

PIECES = st.text("ab", min_size=1, max_size=3)
OUTPUTS = st.one_of(
    st.builds(Output, choice=st.integers(0, 1), text=PIECES, token_count=st.integers(0, 3)),
    st.builds(Output, choice=st.integers(0, 1), reasoning=PIECES, token_count=st.integers(0, 3)),
    st.builds(
        Output,
        choice=st.integers(0, 1),
        tool=st.builds(ToolFragment, index=st.integers(0, 1), id=st.sampled_from(["", "id"]), arguments=PIECES),
        token_count=st.integers(0, 3),
    ),
)


@settings(max_examples=60)
@given(st.lists(OUTPUTS, max_size=12))
def test_nothing_is_lost_added_or_moved(outputs: list[Output]) -> None:
    """Character by character, with its choice and kind, the joined output is the original."""
    joined = coalesce(outputs)
    assert spelled(joined) == spelled(outputs)
    assert sum(one.token_count for one in joined) == sum(one.token_count for one in outputs)


def test_neighbours_of_one_kind_become_one() -> None:
    """Text joins with text, a call's arguments with its start; a new call and another kind stay apart."""
    call = Output(tool=ToolFragment(0, "id", "f", "{"), token_count=1)
    more = Output(tool=ToolFragment(0, arguments="}"), token_count=1)
    assert coalesce([Output(text="a", token_count=1), Output(text="b", token_count=2), call, more, call]) == [
        Output(text="ab", token_count=3),
        Output(tool=ToolFragment(0, "id", "f", "{}"), token_count=2),
        call,
    ]


def spelled(outputs: Sequence[Output]) -> list[tuple[object, ...]]:
    letters: list[tuple[object, ...]] = []
    for one in outputs:
        letters += [(one.choice, "text", letter) for letter in one.text]
        letters += [(one.choice, "reasoning", letter) for letter in one.reasoning]
        if one.tool is not None:
            letters += [(one.choice, "call", one.tool.index, one.tool.id)] * bool(one.tool.id)
            letters += [(one.choice, one.tool.index, letter) for letter in one.tool.arguments]
    return letters
