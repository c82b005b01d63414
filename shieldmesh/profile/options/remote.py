"""Shields that are other services, called by URL."""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, JsonValue, ValidationInfo, field_validator

from .base import ShieldOptions, ShieldType

KindFrom = Literal["detection", "detection_type"]

MAX_URL: Final = 500
"""Characters of a URL."""
_URL: Final = re.compile(
    r"(?P<scheme>grpcs?|https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?"
)
_SOCKET: Final = re.compile(r"unix:(?://)?(?P<path>(?:/[A-Za-z0-9._~-]+)+)/?")
_PORTS: Final = {"http": "80", "https": "443"}
_EXPECTED: Final = (
    "expected grpc://host:port, grpcs://host:port, unix:/path, http://host:port/path or https://host:port/path, "
    "without a user, a query or escapes"
)


def remote_url(url: str) -> str:
    """The URL of a remote in its one normal form: lower case, with its port, without a slash at the end.

    So two URLs are the same place if and only if they are equal, and one lies below another if it begins with the
    other and a slash.

    Raises:
        ValueError: it is no such URL; the message says what is.
    """
    if socket := _SOCKET.fullmatch(url):
        return f"unix:{_plain(socket['path'])}"
    match = _URL.fullmatch(url)
    port = match and (match["port"] or _PORTS.get(match["scheme"]))
    if match is None or not port or not 0 < int(port) < 2**16:
        raise ValueError(_EXPECTED)
    if match["path"] and match["scheme"] not in _PORTS:
        raise ValueError("a ShieldService has no path: expected grpc://host:port")
    return f"{match['scheme']}://{match['host'].lower()}:{int(port)}{_plain(match['path'])}"


def _plain(path: str) -> str:
    if {".", ".."} & set(path.split("/")):
        raise ValueError("a path goes straight to its end: leave . and .. out")
    return path


class RemoteOptions(ShieldOptions):
    """Options of `remote`. Those that follow the URL are either a ShieldService's or a detector's."""

    url: Annotated[str, Field(max_length=MAX_URL), AfterValidator(remote_url)]
    """Where it is: `grpc`, `grpcs` and `unix` for a ShieldService, `http` and `https` for a detector."""

    type: str = Field(default="", max_length=64, validate_default=True)
    """The type of shield to ask a ShieldService for."""
    options: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    """The options of that shield."""

    detector_id: str = Field(default="", max_length=200, pattern=r"^[!-~]*\z", validate_default=True)
    """Which of a server's detectors to ask."""
    detector_params: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    """What to tell it beside the text."""
    kind_from: KindFrom = "detection"
    """Which of a detection's two names is the kind of the finding."""
    window: Literal["whole", "sentences"] = "whole"
    """What it is asked about: the whole text at its end, or a few sentences at a time."""

    @property
    def is_detector(self) -> bool:
        """Whether it is asked over HTTP."""
        return self.url.startswith("http")

    @property
    def sees_all(self) -> bool:
        """Whether it is known to look at whole texts alone."""
        return self.is_detector and self.window == "whole"

    @field_validator("type", "options", "detector_id", "detector_params", "kind_from", "window")
    @classmethod
    def _fit(cls, value: JsonValue, info: ValidationInfo) -> JsonValue:
        name = info.field_name or ""
        url: str = info.data.get("url", "")
        if not url:
            return value  # the URL is wrong, which is said already
        of_detector = name not in {"type", "options"}
        if of_detector != url.startswith("http"):
            if value != cls.model_fields[name].get_default(call_default_factory=True):
                raise ValueError(f"{'a detector (http)' if of_detector else 'a ShieldService (grpc)'} has it alone")
        elif name in {"type", "detector_id"} and not value:
            raise ValueError(f"it is required for {'a detector' if of_detector else 'a ShieldService'}")
        return value


REMOTE_TYPES: Final = (
    ShieldType(
        "remote",
        "window",
        "Asks another service: a ShieldService by gRPC, or a detector over HTTP.",
        (),
        RemoteOptions,
    ),
)
"""The types that ask other services; the options of each stand above."""
