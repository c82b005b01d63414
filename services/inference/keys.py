"""Keys by reference: what a configuration may name, and never hold."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import BeforeValidator, InstanceOf, PlainSerializer, ValidationInfo

ENVIRONMENT: Final = "environment"
"""Where the validation's context holds the process's environment."""

_EXPECTED: Final = "a key is given by reference: {env: NAME_OF_A_VARIABLE} or {file: /path/to/the/key}"
_LONGEST: Final = 16_384

_log: Final = logging.getLogger("shieldmesh.inference.keys")


class Key:
    """A key whose text shows nowhere. One in a file is read again when the file changes, as when a key is rotated."""

    def __init__(self, read: Callable[[], str], file: Path | None = None) -> None:
        """Reads the key.

        Raises:
            ValueError: there is none.
        """
        self._read = read
        self._file = file
        self._stamp = self._look()
        self._text = read()

    def now(self) -> str:
        """The key. One that cannot be read any more stays what it was, and the log says so."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._text = self._read()
            except ValueError as error:
                _log.error(
                    "the key in %s has changed, and the one from before stays in use: %s", self._file, error
                )  # a trace could quote the key
            else:
                _log.info("the key in %s has changed and is used from now on", self._file)
        return self._text

    def _look(self) -> tuple[int, int, int]:
        """What changes with the file."""
        try:
            status = None if self._file is None else self._file.stat()
        except (OSError, ValueError):
            status = None
        return (0, 0, 0) if status is None else (status.st_ino, status.st_mtime_ns, status.st_size)


def _resolved(value: object, info: ValidationInfo) -> object:
    """The key that a reference leads to. Messages never quote a value: it could be the key itself."""
    match value:
        case Key():
            return value
        case {"env": str(name)} if len(cast("Mapping[object, object]", value)) == 1:
            context = cast("Mapping[str, Any]", info.context or {})
            key = cast("Mapping[str, str]", context.get(ENVIRONMENT, {})).get(name)
            if key is None:
                raise ValueError("env: there is no such environment variable: set it, or correct its name")
            return Key(partial(_checked, key))
        case {"file": str(name)} if len(cast("Mapping[object, object]", value)) == 1:
            path = Path(name)
            return Key(lambda: _checked(_content(path)), path)
        case _:
            raise ValueError(_EXPECTED)


def _checked(key: str) -> str:
    key = key.strip()
    if not key or len(key) > _LONGEST or not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("what the reference leads to is no key: expected one line of printable ASCII without spaces")
    return key


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST + 2).decode("ascii", errors="replace")
    except OSError as error:
        raise ValueError(f"file: it cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError("file: this is no path") from None


ApiKey = Annotated[InstanceOf[Key], BeforeValidator(_resolved), PlainSerializer(lambda _: "**********")]
"""A key, from the reference `{env: NAME}` or `{file: path}`."""
