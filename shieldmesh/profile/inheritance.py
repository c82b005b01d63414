"""Profiles that extend others: what a file says about that, and the document that comes of it.

The rule, which docs/shields.md tells to those who write policies:

1. Maps merge, key by key, however deep. Anything else that a profile says takes the place of what it extends: values,
   lists, and a shield's `action` and each of its `actions`, with all their scores.
2. The shields of a way are the inherited ones in their order, then the new ones. One with the name of an inherited one
   is merged into it by rule 1. Names default to types.
3. `without` names the inherited shields that are left out.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import yaml

from .entry import Name, Part
from .source import Item, Problem, ProfileError, Source

SIDES: Final = ("input", "output")
SHIELDS: Final = "shields"
WITHOUT: Final = "without"

Fields: TypeAlias = "dict[str, tuple[yaml.Node, yaml.Node]]"
"""The keys and values of a mapping."""


class Head(Part):
    """What a file says about itself, beside its policy."""

    extends: Name | None = None
    """The profile that it starts from."""
    abstract: bool = False
    """Whether it is only there to be extended; such a profile may lack its model."""
    shadow: Name | None = None
    """The candidate that runs beside it without acting. Not inherited: a candidate may extend what it runs beside."""


def extended(source: Source, parent: Source | None = None) -> Source:
    """The document that `source` makes of `parent`, or of nothing; without the words that only inheritance is for.

    Raises:
        ProfileError: what it says about the shields of its parent is wrong.
    """
    if not isinstance(source.root, yaml.MappingNode):
        return source
    inherited = _fields(parent.root) if parent is not None else {}
    own = {name: field for name, field in _fields(source.root).items() if name not in Head.model_fields}
    merged = _merged_fields(inherited, own)
    problems: list[Problem] = []
    for side in SIDES:
        if side in merged and isinstance(merged[side][1], yaml.MappingNode):
            before, now = (_fields(fields[side][1]) if side in fields else {} for fields in (inherited, own))
            problems += _problems(source, side, before, now)
            key, node = merged[side]
            merged[side] = key, _mapping(node, _merged_side(before, now))
    if problems:
        raise ProfileError(problems)
    return Source.made_of(_mapping(source.root, merged))


def _merged_side(before: Fields, now: Fields) -> Fields:
    """What guards one way."""
    merged = _merged_fields(before, now)
    left_out = {str(name.value) for name in _elements(merged.pop(WITHOUT, None))}
    if SHIELDS in merged and isinstance(merged[SHIELDS][1], yaml.SequenceNode):
        key, node = merged[SHIELDS]
        inherited = [shield for shield in _elements(before.get(SHIELDS)) if _name(shield) not in left_out]
        shields = _merged_shields(inherited, _elements(now.get(SHIELDS)))
        merged[SHIELDS] = key, yaml.SequenceNode(node.tag, shields, node.start_mark, node.end_mark)
    return merged


def _merged_shields(inherited: Sequence[yaml.Node], new: Sequence[yaml.Node]) -> list[yaml.Node]:
    merged = list(inherited)
    places = {_name(shield): place for place, shield in enumerate(inherited)}
    for shield in new:
        place = places.pop(_name(shield), None)  # a second one of this name stays beside the first, and is refused
        known = None if place is None else merged[place]
        if place is not None and isinstance(known, Item) and isinstance(shield, Item):
            fields = _merged_fields(_fields(known), _fields(shield), shield_path=())
            merged[place] = Item(_mapping(shield, fields), {**known.indexes, **shield.indexes})
        else:
            merged.append(shield)
    return merged


def _merged_fields(before: Fields, now: Fields, shield_path: tuple[str, ...] | None = None) -> Fields:
    """Rule 1; `shield_path` is where in a shield these fields are."""
    merged = dict(before)
    for name, (key, value) in now.items():
        path = None if shield_path is None else (*shield_path, name)
        known = before[name][1] if name in before else None
        if isinstance(known, yaml.MappingNode) and isinstance(value, yaml.MappingNode) and not _is_reaction(path):
            merged[name] = key, _mapping(value, _merged_fields(_fields(known), _fields(value), path))
        else:
            merged[name] = key, value
    return merged


def _is_reaction(path: tuple[str, ...] | None) -> bool:
    """Whether a place in a shield is what is done about findings."""
    return path is not None and (path == ("action",) or (len(path) == 2 and path[0] == "actions"))


def _problems(source: Source, side: str, before: Fields, now: Fields) -> Iterator[Problem]:
    """What is wrong with what a document says about the shields that it inherits."""
    inherited = {_name(shield): shield for shield in _elements(before.get(SHIELDS))}
    names = ", ".join(sorted(filter(None, inherited)))
    if WITHOUT in now and not isinstance(now[WITHOUT][1], yaml.SequenceNode):
        yield source.problem([side, WITHOUT], "expected a list of names of inherited shields")
    for index, name in enumerate(_elements(now.get(WITHOUT))):
        if inherited.pop(str(name.value), None) is None:
            message = f"no such shield is inherited: expected one of {names}" if names else "no shield is inherited"
            yield source.problem([side, WITHOUT, index], message)
    for index, shield in enumerate(_elements(now.get(SHIELDS))):
        known, own = (_fields(each).get("type") for each in (inherited.get(_name(shield), shield), shield))
        if known is not None and own is not None and known[1].value != own[1].value:
            mark = known[0].start_mark
            message = (
                f"{_name(shield)} is of type {known[1].value} in {mark.name}:{mark.line + 1}: "
                f"choose another name, or leave the inherited one out with `{WITHOUT}`"
            )
            yield source.problem([side, SHIELDS, index, "type"], message)


def _elements(field: tuple[yaml.Node, yaml.Node] | None) -> list[yaml.Node]:
    """The elements of a list, those that are mappings with their places; none where there is no list."""
    if field is None or not isinstance(field[1], yaml.SequenceNode):
        return []
    return [
        Item(node, {node.start_mark.name: index})
        if isinstance(node, yaml.MappingNode) and not isinstance(node, Item)
        else node
        for index, node in enumerate(field[1].value)
    ]


def _name(shield: yaml.Node) -> str | None:
    fields = _fields(shield)
    key = "name" if "name" in fields else "type"
    return str(fields[key][1].value) if key in fields else None


def _fields(node: yaml.Node) -> Fields:
    return {str(key.value): (key, value) for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _mapping(like: yaml.Node, fields: Fields) -> yaml.MappingNode:
    # The stub does not say what a mapping's value is.
    return yaml.MappingNode(like.tag, list(fields.values()), like.start_mark, like.end_mark)  # pyright: ignore[reportUnknownMemberType]
