"""The queue gives each owner its share of what is taken and of the room, whatever the others put in."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from shieldmesh.admission.fair_queue import FairQueue

OWNERS = ("a", "b", "c", "d")

weights = st.fixed_dictionaries({owner: st.integers(1, 8) for owner in OWNERS})
steps = st.lists(st.sampled_from([*OWNERS, "take", "remove"]), max_size=200)


def always(_: int) -> bool:
    return True


def drained(queue: FairQueue[int]) -> list[int]:
    """All items, in the order in which they are taken."""
    items: list[int] = []
    while (item := queue.take(always)) is not None:
        items.append(item)
    return items


@given(st.integers(0, 12), weights, steps)
def test_every_item_leaves_once_and_an_owners_own_in_order(
    capacity: int, shares: dict[str, int], story: Sequence[str]
) -> None:
    """No item is lost or doubled, none is kept beyond the capacity, and nobody's items overtake each other."""
    queue = FairQueue[int](capacity, shares)
    waiting: dict[str, list[int]] = {owner: [] for owner in OWNERS}
    for number, step in enumerate(story):
        if step == "take":
            item = queue.take(always)
            assert (item is None) == (not any(waiting.values()))
            assert item is None or [items.pop(0) for items in waiting.values() if items[:1] == [item]] == [item]
        elif step == "remove":
            owner = OWNERS[number % len(OWNERS)]
            gone = waiting[owner].pop(number % len(waiting[owner])) if waiting[owner] else number
            assert queue.remove(owner, gone) == (gone != number)
        else:
            waiting[step].append(number)
            displaced = queue.put(step, number)
            assert displaced is None or [items.pop() for items in waiting.values() if items[-1:] == [displaced]]
        assert len(queue) == sum(map(len, waiting.values())) <= capacity
    assert sorted(drained(queue)) == sorted(item for items in waiting.values() for item in items)


@given(weights, steps)
def test_owners_that_wait_are_served_by_their_weights(shares: dict[str, int], story: Sequence[str]) -> None:
    """Over any time in which two owners have items waiting, they get shares that differ by one item of each at most."""
    queue = FairQueue[int](1_000, shares)
    waiting = Counter[str]()
    owner_of: dict[int, str] = {}
    # For each pair: how far the first was ahead of the second, in shares, since both wait.
    leads: dict[tuple[str, str], list[float]] = {pair: [0.0] for pair in combinations(OWNERS, 2)}
    for number, step in enumerate(story):
        if step == "take" and (item := queue.take(always)) is not None:
            owner = owner_of[item]
            for pair, lead in leads.items():
                if waiting[pair[0]] and waiting[pair[1]]:
                    lead.append(lead[-1] + {pair[0]: 1, pair[1]: -1}.get(owner, 0) / shares[owner])
                else:
                    lead[:] = [0.0]
                assert max(lead) - min(lead) <= sum(1 / shares[each] for each in pair) + 1e-9
            waiting[owner] -= 1
        elif step in OWNERS:
            owner_of[number] = step
            assert queue.put(step, number) is None
            waiting[step] += 1


@given(st.fixed_dictionaries({owner: st.sampled_from([1, 2, 4]) for owner in OWNERS}), steps, st.sampled_from(OWNERS))
def test_how_many_are_ahead_is_known(shares: dict[str, int], story: Sequence[str], owner: str) -> None:
    """What `ahead` says is how many are taken before the next item of an owner, if none comes in between."""
    queue = FairQueue[int](1_000, shares)
    for number, step in enumerate(story):
        if step == "take":
            queue.take(always)
        elif step in OWNERS:
            queue.put(step, number)
    ahead = queue.ahead(owner)
    queue.put(owner, -1)
    assert drained(queue).index(-1) == ahead


def test_a_full_queue_makes_room_for_who_has_less_than_others() -> None:
    """One owner may have the whole queue; others take room from it up to their shares, its newest items first."""
    queue = FairQueue[int](8, {"a": 3})
    assert [queue.put("a", number) for number in range(9)] == [*[None] * 8, 8]
    assert [queue.put("b", number) for number in (10, 11, 12)] == [7, 6, 12]
    assert [queue.put("a", 20), queue.put("c", 30)] == [20, 5]
    assert drained(queue) == [0, 10, 30, 1, 2, 3, 11, 4]


def test_who_comes_back_is_not_served_twice_before_the_others() -> None:
    """What an owner had counts while others wait, also when nothing of its own did meanwhile."""
    queue = FairQueue[int](8, {})
    for owner, item in (("a", 1), ("b", 2), ("b", 3), ("b", 4)):
        queue.put(owner, item)
    assert queue.take(always) == 1
    queue.put("a", 5)
    assert drained(queue) == [2, 3, 5, 4]


def test_an_item_that_is_not_wanted_any_more_costs_its_owner_nothing() -> None:
    """Items that are refused when their turn comes are dropped, and the owner's next one is due then."""
    queue = FairQueue[int](8, {})
    for owner, item in (("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5)):
        queue.put(owner, item)
    assert queue.take(lambda item: item > 2) == 3
    assert drained(queue) == [4, 5]
