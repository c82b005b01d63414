"""YAML that knows where everything stands: values with `yaml.safe_load`'s meaning, and the line of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import yaml

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_NODES: Final = 500_000
"""Values a file may hold with all its aliases written out."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file."""

    file: str
    line: int
    """From 1; 0 when the file as a whole is meant."""
    field: str
    """As in `output.shields[0].action`, or "" when no field is meant."""
    message: str

    def __str__(self) -> str:
        """The problem in one line, as compilers write it."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class ProfileError(Exception):
    """Profiles cannot be used. `problems` says all that is wrong, `str()` in a line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class Item(yaml.MappingNode):
    """A mapping that stood in lists of one or more documents.

    Attributes:
        indexes: Its place in the list of each of these documents, by their files.
    """

    def __init__(self, node: yaml.MappingNode, indexes: Mapping[str, int]) -> None:
        # The stub does not say what a mapping's value is.
        super().__init__(node.tag, node.value, node.start_mark, node.end_mark)  # pyright: ignore[reportUnknownMemberType]
        self.indexes = indexes


class Source:
    """A YAML document, or one made of several: its values, and the place of each.

    Attributes:
        root: What was written, with keys that `<<` brought in among the others.
        values: What that means.
    """

    def __init__(self, file: str, content: bytes) -> None:
        """Reads a document.

        Raises:
            ProfileError: the text is no YAML document, has a key twice, or would grow too large with its aliases.
        """
        self.root = _compose(file, content)
        if problems := list(_repeated_keys(file, self.root)):
            raise ProfileError(problems)
        if _size(self.root, {}) > MAX_NODES:
            raise ProfileError([Problem(file, 0, "", "its aliases contain themselves or repeat too much")])
        self.values: object = _construct(file, self.root)

    @classmethod
    def made_of(cls, root: yaml.Node) -> "Source":
        """The document with this root, whose nodes come from documents that were read."""
        made = cls.__new__(cls)
        made.root = root
        made.values = _construct(root.start_mark.name, root)
        return made

    @property
    def fields(self) -> Mapping[str, object]:
        """The values of a document that is a mapping, none of another."""
        return cast("Mapping[str, object]", self.values) if isinstance(self.root, yaml.MappingNode) else {}

    def problem(self, path: Sequence[str | int], message: str) -> Problem:
        """The problem at a path, with file, line and field of the nearest value that is there.

        Steps of the path that the document does not have, such as a union's tag, are passed over.
        """
        node, mark = self.root, self.root.start_mark
        way: list[tuple[str | int, yaml.Node]] = []
        for position, step in enumerate(path):
            found = _step(node, step)
            if found is not None:
                mark, node = found
                way.append((step, node))
            elif position == len(path) - 1:
                way.append((step, self.root))
        field = ""
        for step, node in way:
            place = node.indexes.get(mark.name, step) if isinstance(node, Item) else step
            field = _join(field, place)
        return Problem(mark.name, mark.line + 1, field, message)


def _compose(file: str, content: bytes) -> yaml.Node:
    if len(content) > MAX_BYTES:
        raise ProfileError([Problem(file, 0, "", f"it has {len(content)} bytes, at most {MAX_BYTES} are read")])
    try:
        loader = yaml.SafeLoader(content.decode())
        loader.name = file
        root: yaml.Node | None = loader.get_single_node()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ProfileError([Problem(file, line, "", "it is not UTF-8 text")]) from None
    except yaml.MarkedYAMLError as error:
        raise ProfileError([_from_yaml(file, error)]) from None
    except yaml.YAMLError:
        raise ProfileError([Problem(file, 0, "", "it holds characters that YAML forbids")]) from None
    except RecursionError:
        raise ProfileError([Problem(file, 0, "", "it is nested too deeply")]) from None
    if root is None:
        raise ProfileError([Problem(file, 0, "", "it is empty; a profile names at least its model")])
    return root


def _construct(file: str, root: yaml.Node) -> object:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(root)  # pyright: ignore[reportUnknownMemberType]  # its stub has no types
    except yaml.MarkedYAMLError as error:
        raise ProfileError([_from_yaml(file, error)]) from None
    except (ValueError, RecursionError):
        # A timestamp such as 2026-13-45 passes YAML's grammar and fails Python's.
        raise ProfileError([Problem(file, 0, "", "it holds a value that cannot be read")]) from None
    finally:
        loader.dispose()


def _from_yaml(file: str, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    return Problem(file, mark.line + 1 if mark else 0, "", f"it is not valid YAML: {error.problem or error.context}")


def _repeated_keys(file: str, root: yaml.Node) -> Iterator[Problem]:
    waiting: list[tuple[yaml.Node, str]] = [(root, "")]
    known: set[int] = set()
    while waiting:
        node, field = waiting.pop()
        if id(node) in known:
            continue
        known.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(child, _join(field, index)) for index, child in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                name = str(key.value)
                waiting.append((value, _join(field, name)))
                if name in lines:
                    message = f"it stands there twice, first in line {lines[name]}"
                    yield Problem(file, key.start_mark.line + 1, _join(field, name), message)
                lines.setdefault(name, key.start_mark.line + 1)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values the node holds with aliases written out; too many when it contains itself."""
    if id(node) not in known:
        known[id(node)] = MAX_NODES + 1  # stands while its children are counted: only a cycle sees it
        known[id(node)] = 1 + sum(_size(child, known) for child in _children(node))
    return known[id(node)]


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def _step(node: yaml.Node, step: str | int) -> tuple[yaml.Mark, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark, node.value[step]
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):  # of keys that `<<` brought in and others, the last one counts
            if key.value == str(step):
                return key.start_mark, value
    return None


def _join(field: str, step: str | int) -> str:
    if isinstance(step, int):
        return f"{field}[{step}]"
    return f"{field}.{step}" if field else step
