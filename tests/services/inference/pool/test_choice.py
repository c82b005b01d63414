"""What holds of every choice of an endpoint, whatever the loads, the sessions and the failures."""

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.inference.pool.choice import Candidate, bound, choose

NAMES = [f"gpu-{number}:8000" for number in range(8)]
SESSIONS = st.text(max_size=8)
CHANCES = st.randoms(use_true_random=False)


@st.composite
def pools(draw: st.DrawFn, *, least: int = 1) -> list[Candidate]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=least, max_size=len(NAMES)))
    flags, loads = st.booleans(), st.integers(0, 20)
    return [Candidate(name, draw(loads), ejected=draw(flags), tried=draw(flags)) for name in names]


@given(pools(), SESSIONS, CHANCES)
def test_an_endpoint_that_is_left_alone_is_never_chosen(
    pool: list[Candidate], session: str, chance: random.Random
) -> None:
    """Nobody is, when all are; and who was tried only when there is no other."""
    chosen = choose(pool, session, chance.randrange)
    able = [each for each in pool if not each.ejected]
    assert (chosen is None) == (not able)
    if chosen is not None:
        assert chosen in able
        assert not chosen.tried or all(each.tried for each in able)


@given(pools(least=2), CHANCES)
def test_without_a_session_the_busiest_is_never_chosen(pool: list[Candidate], chance: random.Random) -> None:
    """Of two different endpoints the less loaded is taken, so one that is busier than all others is not."""
    pool = [replace(each, ejected=False, tried=False) for each in pool]
    chosen = choose(pool, "", chance.randrange)
    assert chosen is not None
    assert any(chosen.running <= other.running for other in pool if other is not chosen)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=120), st.integers(1, 8), CHANCES)
def test_no_endpoint_has_more_than_its_bound(sessions: list[int], size: int, chance: random.Random) -> None:
    """However unevenly sessions ask: at most 5/4 of the mean, rounded up."""
    loads = Counter(dict.fromkeys(NAMES[:size], 0))
    for number, session in enumerate(sessions):
        chosen = choose([Candidate(*load) for load in loads.items()], f"s{session}", chance.randrange)
        assert chosen is not None
        loads[chosen.name] += 1
        assert loads[chosen.name] <= bound(number, size)


@given(pools(least=2), SESSIONS.filter(bool), CHANCES)
def test_when_an_endpoint_leaves_only_its_sessions_move(
    pool: list[Candidate], session: str, chance: random.Random
) -> None:
    """At equal loads; whether it has gone, is left alone, or has just failed."""
    pool = [replace(each, running=0, ejected=False, tried=False) for each in pool]
    home = choose(pool, session, chance.randrange)
    assert home is not None
    for leaving in pool:
        rest = [each for each in pool if each is not leaving]
        for changed in (replace(leaving, ejected=True), replace(leaving, tried=True)):
            now = choose([*rest, changed], session, chance.randrange)
            assert now == choose(rest, session, chance.randrange)
            assert home in {now, leaving}


def test_sessions_are_spread_over_all_endpoints_and_stay() -> None:
    """Homes do not depend on the process or on the order of the list."""
    pool = [Candidate(name, 0) for name in NAMES[:4]]
    homes = [choose(pool, f"tenant/{number}", random.Random(0).randrange) for number in range(400)]
    again = [choose(pool[::-1], f"tenant/{number}", random.Random(1).randrange) for number in range(400)]
    assert homes == again
    assert min(Counter(homes).values()) > 60
    # As they are in other processes, where texts have other hashes.
    assert [home.name[4] for home in homes[:12] if home is not None] == list("321021103101")


def test_a_session_goes_elsewhere_while_its_home_is_clearly_busier() -> None:
    """And comes back."""
    pool = [Candidate(name, 4) for name in NAMES[:4]]
    home = choose(pool, "a", random.Random(0).randrange)
    busy = [replace(each, running=8) if each == home else each for each in pool]
    assert choose(busy, "a", random.Random(0).randrange) != home
    assert choose([replace(each, running=6) for each in busy], "a", random.Random(0).randrange) == replace(
        home or pool[0], running=6
    )
