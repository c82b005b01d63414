"""Profiles from files: `NAME.yaml` in one directory, and those of single tenants in `tenants/TENANT/NAME.yaml`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from shieldmesh.context import ID_PATTERN

from .inheritance import extended
from .profiles import Profile, Profiles, Shelf
from .reading import Draft, built, read
from .source import Problem, ProfileError, Source

TENANTS: Final = "tenants"
"""The directory of the directories of single tenants."""

Fingerprint = frozenset[tuple[str, int, int, int]]

Drafts = Mapping[str, Draft]
"""What the files of a directory say, by profile."""

_NONE: Final[Drafts] = MappingProxyType({})


def load(directory: Path) -> Profiles:
    """All profiles of a directory, the common ones and those of single tenants.

    Raises:
        ProfileError: the directory has no profiles or some are wrong; it tells all problems of all files.
    """
    problems: list[Problem] = []
    common = _drafts(directory, problems)
    shelf = _Family(common).shelf(problems)
    shelves = {
        place.name: _Family(_drafts(place, problems), common).shelf(problems) for place in _tenants(directory, problems)
    }
    if problems:
        # What is wrong with a profile is wrong with all that extend it: it is told once.
        raise ProfileError(sorted(set(problems), key=lambda problem: (problem.file, problem.line, problem.field)))
    return Profiles(shelf, MappingProxyType(shelves))


def fingerprint(directory: Path) -> Fingerprint:
    """What tells that a file of the profiles may have changed since: compare two. Cheap, as no file is read."""
    places = [directory, *_quietly(directory / TENANTS)]
    files = [path for place in places for path in _quietly(place) if path.suffix in {".yaml", ".yml"}]
    return frozenset((str(path), *_stamp(path)) for path in (*places, *files))


def load_file(path: Path) -> Profile:
    """The profile of one file, which may extend those beside it.

    Raises:
        ProfileError: it cannot be read or is wrong; it tells all problems, each with line and field.
    """
    of_tenant = path.absolute().parent.parent.name == TENANTS
    family = _Family(_drafts(path.parent, []), _drafts(path.parent.parent.parent, []) if of_tenant else _NONE)
    return family.profile(family.drafts.get(path.stem) or read(path))


class _Family:
    """The profiles of one directory, and what they extend: one another and, if they are a tenant's, the common ones."""

    def __init__(self, drafts: Drafts, common: Drafts = _NONE) -> None:
        self.drafts = drafts
        self._common = common
        self._documents: dict[Draft, Source] = {}

    def shelf(self, problems: list[Problem]) -> Shelf:
        """The profiles that can be used; what is wrong is added to `problems`."""
        shelf: dict[str, Profile] = {}
        for name, draft in self.drafts.items():
            try:
                profile = self.profile(draft)
            except ProfileError as error:
                problems += error.problems
                continue
            if not draft.head.abstract:
                shelf[name] = profile
        problems += _without_candidates(shelf, self.drafts)
        return MappingProxyType(shelf)

    def profile(self, draft: Draft) -> Profile:
        """The profile of a draft.

        Raises:
            ProfileError: it or one that it extends is wrong.
        """
        line = list(self._line(draft))
        document: Source | None = None
        for each in reversed(line):
            if each not in self._documents:
                self._documents[each] = extended(_source(each), document)
            document = self._documents[each]
        return built(draft, self._documents[draft])

    def _line(self, draft: Draft) -> Iterator[Draft]:
        """The draft, the one that it extends, and so on."""
        line: list[Draft] = []
        while draft not in line:
            line.append(draft)
            yield draft
            wanted = draft.head.extends
            if wanted is None:
                return
            draft = self._parent(draft, wanted)
        raise ProfileError(_circle(line[line.index(draft) :]))

    def _parent(self, draft: Draft, wanted: str) -> Draft:
        is_common = self._common.get(draft.name) is draft
        seen = [self._common] if is_common else [self.drafts, self._common]
        # A tenant's profile may extend the common one of the same name.
        others = [each[wanted] for each in seen if wanted in each and each[wanted] is not draft]
        if others:
            return others[0]
        if wanted == draft.name:
            return draft
        names = sorted({name for each in seen for name in each} - {draft.name})
        expected = f"expected one of {', '.join(names)}" if names else "it is the only one"
        raise ProfileError([_source(draft).problem(["extends"], f"there is no profile {wanted} here: {expected}")])


def _without_candidates(shelf: Shelf, drafts: Drafts) -> Iterator[Problem]:
    """What is wrong with profiles that want a shadow which is not there."""
    for name, profile in shelf.items():
        others = sorted(shelf.keys() - {name})
        # A candidate that is wrong itself is told as such.
        if profile.shadow and (profile.shadow == name or profile.shadow not in {*shelf, *_broken(shelf, drafts)}):
            expected = f"expected one of {', '.join(others)}" if others else "it is the only one"
            message = f"{profile.shadow} is no other profile beside this one: {expected}"
            yield _source(drafts[name]).problem(["shadow"], message)


def _broken(shelf: Shelf, drafts: Drafts) -> Iterator[str]:
    return (name for name, draft in drafts.items() if name not in shelf and not draft.head.abstract)


def _circle(drafts: list[Draft]) -> list[Problem]:
    """What is wrong with drafts that extend one another in a circle, told for each."""
    problems: list[Problem] = []
    for start, draft in enumerate(drafts):
        names = " extends ".join(each.name for each in (*drafts[start:], *drafts[: start + 1]))
        problems.append(_source(draft).problem(["extends"], f"{names}: no profile can extend itself"))
    return problems


def _source(draft: Draft) -> Source:
    if draft.source is None:
        raise ProfileError(draft.problems)
    return draft.source


def _drafts(directory: Path, problems: list[Problem]) -> Drafts:
    """The drafts of a directory; what is wrong with reading them is added to `problems`."""
    drafts: dict[str, Draft] = {}
    try:
        paths = [path for path in _entries(directory) if path.suffix in {".yaml", ".yml"}]
    except ProfileError as error:
        problems += error.problems
        return _NONE
    for path in paths:
        draft = read(path)
        problems += draft.problems
        if path.suffix == ".yaml":
            drafts[path.stem] = draft
    if not paths:
        problems.append(Problem(str(directory), 0, "", "it holds no profiles (NAME.yaml)"))
    return MappingProxyType(drafts)


def _tenants(directory: Path, problems: list[Problem]) -> Iterator[Path]:
    """The directories of tenants; what cannot be one is added to `problems`."""
    directory /= TENANTS
    try:
        paths = _entries(directory) if directory.is_dir() else []
    except ProfileError as error:
        problems += error.problems
        return
    for path in paths:
        if not path.is_dir():
            problems.append(Problem(str(path), 0, "", f"{TENANTS} holds a directory for each tenant: move it into one"))
        elif not ID_PATTERN.fullmatch(path.name):
            message = "no tenant can be called so: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -"
            problems.append(Problem(str(path), 0, "", message))
        else:
            yield path


def _entries(directory: Path) -> list[Path]:
    """What a directory holds, by name; not what is hidden, as editors and Kubernetes leave it there."""
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        message = f"the profiles' directory cannot be read: {error.strerror}"
        raise ProfileError([Problem(str(directory), 0, "", message)]) from None


def _quietly(directory: Path) -> list[Path]:
    try:
        return _entries(directory)
    except ProfileError:
        return []


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size
