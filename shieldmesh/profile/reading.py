"""One file at a time: what it says about itself, and the profile that its document is."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .entry import UNION_MARK
from .inheritance import Head, extended
from .notices import notices_of
from .policy import Policy
from .profiles import Profile
from .source import Problem, ProfileError, Source

_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A profile's file as it stands, before it is joined to what it extends."""

    name: str
    file: str
    """What messages call it."""
    source: Source | None
    """None when there are problems."""
    head: Head = field(default_factory=Head)
    problems: tuple[Problem, ...] = ()


def read(path: Path) -> Draft:
    """The draft in a file, or the problems of reading it."""
    if path.suffix != ".yaml" or not _NAME.fullmatch(path.stem):
        message = "a profile's file is called NAME.yaml, its name 1 to 64 of a-z, 0-9, _ and -: rename it"
        return _unread(path.stem, str(path), Problem(str(path), 0, "", message))
    try:
        content = path.read_bytes()
    except OSError as error:
        return _unread(path.stem, str(path), Problem(str(path), 0, "", f"it cannot be read: {error.strerror}"))
    return draft(path.stem, str(path), content)


def draft(name: str, file: str, content: bytes) -> Draft:
    """The draft that `content` is, or its problems."""
    try:
        source = Source(file, content)
    except ProfileError as error:
        return _unread(name, file, *error.problems)
    try:
        head = Head.model_validate({key: source.fields[key] for key in Head.model_fields if key in source.fields})
    except ValidationError as error:
        return _unread(name, file, *(_problem(source, details) for details in error.errors()))
    return Draft(name, file, source, head)


def parse(name: str, file: str, content: bytes) -> Profile:
    """The profile that `content` describes, which extends no other; `file` is what messages call it.

    Raises:
        ProfileError: it is wrong.
    """
    one = draft(name, file, content)
    if one.source is None:
        raise ProfileError(one.problems)
    if one.head.extends is not None:
        raise ProfileError([one.source.problem(["extends"], "there is no other profile here that it could extend")])
    return built(one, extended(one.source))


def built(one: Draft, document: Source) -> Profile:
    """The profile of a draft, once it is joined to what it extends.

    Raises:
        ProfileError: it is wrong.
    """
    # Nobody can use an abstract one; whoever extends it names a model.
    values = {"model": "none", **document.fields} if one.head.abstract else document.values
    try:
        policy = Policy.model_validate(values)
    except ValidationError as error:
        raise ProfileError([_problem(document, details) for details in error.errors()]) from None
    notices = tuple(document.problem(path, message) for path, message in notices_of(policy))
    return Profile(one.name, _version(policy), policy, notices, one.head.shadow or "")


def _unread(name: str, file: str, *problems: Problem) -> Draft:
    return Draft(name, file, None, problems=problems)


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
