"""Profiles from files: `NAME.yaml` in one directory, each a policy with a version."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .entry import UNION_MARK
from .policy import Policy
from .source import Problem, ProfileError, Source

_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Profile:
    """A named, versioned policy."""

    name: str
    version: str
    """12 hexadecimal digits, the same for the same content, whatever its comments and layout."""
    policy: Policy


def load(directory: Path) -> Mapping[str, Profile]:
    """All profiles of a directory by name.

    Raises:
        ProfileError: the directory has no profiles or some are wrong; it tells all problems of all files.
    """
    files = sorted(path for path in _entries(directory) if path.suffix in {".yaml", ".yml"})
    if not files:
        raise ProfileError([Problem(str(directory), 0, "", "it holds no profiles (NAME.yaml)")])
    profiles: dict[str, Profile] = {}
    problems: list[Problem] = []
    for path in files:
        try:
            profiles[path.stem] = load_file(path)
        except ProfileError as error:
            problems += error.problems
    if problems:
        raise ProfileError(problems)
    return MappingProxyType(profiles)


def load_file(path: Path) -> Profile:
    """The profile of one file.

    Raises:
        ProfileError: it cannot be read or is wrong; it tells all problems, each with line and field.
    """
    if path.suffix != ".yaml" or not _NAME.fullmatch(path.stem):
        message = "a profile's file is called NAME.yaml, its name 1 to 64 of a-z, 0-9, _ and -: rename it"
        raise ProfileError([Problem(str(path), 0, "", message)])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProfileError([Problem(str(path), 0, "", f"it cannot be read: {error.strerror}")]) from None
    return parse(path.stem, str(path), content)


def parse(name: str, file: str, content: bytes) -> Profile:
    """The profile that `content` describes; `file` is what messages call it.

    Raises:
        ProfileError: it is wrong.
    """
    source = Source(file, content)
    try:
        policy = Policy.model_validate(source.values)
    except ValidationError as error:
        raise ProfileError([_problem(source, details) for details in error.errors()]) from None
    return Profile(name, _version(policy), policy)


def _entries(directory: Path) -> Sequence[Path]:
    try:
        return list(directory.iterdir())
    except OSError as error:
        message = f"the profiles' directory cannot be read: {error.strerror}"
        raise ProfileError([Problem(str(directory), 0, "", message)]) from None


def _problem(source: Source, details: ErrorDetails) -> Problem:
    # What pydantic adds in brackets is no step of the document: "[key]" for a key, and the members of our unions.
    location = [step for step in details["loc"] if not (isinstance(step, str) and step.startswith(UNION_MARK))]
    context = details.get("ctx", {})
    match details["type"]:
        case "missing":
            message = "it is missing"
        case "extra_forbidden":
            message = "there is no such field here"
        case "union_tag_invalid":
            location, message = [*location, "type"], f"expected one of {context['expected_tags']}"
        case "union_tag_not_found":
            location, message = [*location, "type"], "it is missing"
        case "value_error":
            message = str(context["error"])
        case _:
            message = details["msg"][0].lower() + details["msg"][1:]
    return source.problem(location, message)


def _version(policy: Policy) -> str:
    content = json.dumps(policy.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:12]
