"""Keys by reference: what a configuration may name, and never hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import BeforeValidator, SecretStr, ValidationInfo

ENVIRONMENT: Final = "environment"
"""Where the validation's context holds the process's environment."""

_EXPECTED: Final = "a key is given by reference: {env: NAME_OF_A_VARIABLE} or {file: /path/to/the/key}"
_LONGEST: Final = 16_384


def _resolved(value: object, info: ValidationInfo) -> object:
    """The key that a reference leads to. Messages never quote a value: it could be the key itself."""
    if isinstance(value, SecretStr):
        return value
    match value:
        case {"env": str(name)} if len(cast("Mapping[object, object]", value)) == 1:
            context = cast("Mapping[str, Any]", info.context or {})
            key = cast("Mapping[str, str]", context.get(ENVIRONMENT, {})).get(name)
            if key is None:
                raise ValueError("env: there is no such environment variable: set it, or correct its name")
        case {"file": str(path)} if len(cast("Mapping[object, object]", value)) == 1:
            key = _content(Path(path))
        case _:
            raise ValueError(_EXPECTED)
    key = key.strip()
    if not key or len(key) > _LONGEST or not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("what the reference leads to is no key: expected one line of printable ASCII without spaces")
    return SecretStr(key)


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST + 2).decode("ascii", errors="replace")
    except OSError as error:
        raise ValueError(f"file: it cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError("file: this is no path") from None


ApiKey = Annotated[SecretStr, BeforeValidator(_resolved)]
"""A key, from the reference `{env: NAME}` or `{file: path}`; read once, with the configuration."""
