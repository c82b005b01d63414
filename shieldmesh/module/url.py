"""Where a module is: from its URL to what answers for it."""

import os
import re
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from shieldmesh.client.url import parse_url
from shieldmesh.module.inference import InferenceTarget
from shieldmesh.module.mesh import MeshTarget
from shieldmesh.module.target import Target

_EXPECTED: Final = (
    "expected mesh://host:port/profile, grpc://host:port/model (meshs and grpcs with TLS), "
    "mesh+unix:/path?profile=NAME, grpc+unix:/path?model=NAME or openai+https://host/v1/model"
)
_ENCRYPTED: Final = frozenset({"meshs", "grpcs"})
_KNOWN: Final = {
    "mesh": frozenset[str](),
    "meshs": frozenset({"ca"}),
    "mesh+unix": frozenset({"profile"}),
    "mesh+inprocess": frozenset({"profile"}),
    "grpc": frozenset[str](),
    "grpcs": frozenset({"ca"}),
    "grpc+unix": frozenset({"model"}),
    "grpc+inprocess": frozenset({"model"}),
    "openai+http": frozenset({"key_env", "model"}),
    "openai+https": frozenset({"key_env", "model"}),
}
"""The kinds, and what each takes after a question mark."""


def is_url(text: str) -> bool:
    """Whether a text is meant to be a module's URL."""
    return text.partition(":")[0] in _KNOWN


def target_at(url: str, *, api_key: str = "") -> Target:
    """What answers at `url`.

    Raises:
        ValueError: it names no module; the message says which forms do, and quotes no key.
        ImportError: what the kind needs is not installed.
    """
    scheme, rest, options = _split(url)
    if scheme.startswith("openai+"):
        return _openai(scheme.removeprefix("openai+"), rest, options, api_key)
    if api_key or "@" in rest:
        raise ValueError(f"a module at {scheme}: takes no credentials: leave them out")
    kind, _, local = scheme.partition("+")
    if local:
        place, name = f"{local}:{rest}", options.get("model" if kind == "grpc" else "profile", "")
    else:
        address, _, name = rest.removeprefix("//").partition("/")
        name = unquote(name.rstrip("/"))
        if kind.startswith("grpc") and not re.search(r":\d+$", address):
            raise ValueError(f"a module at {kind}: needs a port: {_EXPECTED}")
        ca = f"?ca={options['ca']}" if "ca" in options else ""
        place = f"{'meshs' if scheme in _ENCRYPTED else 'mesh'}://{address}{ca}"
    if kind.startswith("mesh"):
        return MeshTarget(parse_url(place), name)
    if not name:
        raise ValueError(f"a module at {scheme}: needs the name of a model: {_EXPECTED}")
    return InferenceTarget(parse_url(place), name)


def _split(url: str) -> tuple[str, str, dict[str, str]]:
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in _KNOWN:
        # Not quoted: whoever mixes up a URL and a key should not find the key in a log.
        raise ValueError(f"this URL names no module: {_EXPECTED}")
    rest, _, query = rest.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ValueError(f"what follows the question mark of a module's URL is not NAME=VALUE: {_EXPECTED}") from None
    options = dict(pairs)
    if unknown := sorted(options.keys() - _KNOWN[scheme]):
        known = ", ".join(sorted(_KNOWN[scheme])) or "none"
        raise ValueError(f"a module at {scheme}: knows no option {', '.join(unknown)}; it knows: {known}")
    return scheme, rest, options


def _openai(scheme: str, rest: str, options: dict[str, str], api_key: str) -> Target:
    address = urlsplit(f"{scheme}:{rest}")
    if "@" in address.netloc:
        raise ValueError("a URL shows up in logs: name the variable that holds the key, ?key_env=VARIABLE")
    if not address.hostname:
        raise ValueError(f"this URL names no server: {_EXPECTED}")
    path, model = address.path.strip("/"), options.get("model", "")
    if not model:
        # The API usually lies below /v1; names of models can have slashes themselves.
        base, found, model = f"{path}/".partition("v1/")
        path, model = (f"{base}v1", model.rstrip("/")) if found else (path.rpartition("/")[0], path.rpartition("/")[2])
    if not model:
        raise ValueError(f"a module at openai+{scheme}: needs the name of a model: {_EXPECTED}")
    try:
        from shieldmesh.module.openai import OpenAITarget  # noqa: PLC0415  # needs packages that the client alone lacks
    except ImportError as error:
        raise ImportError(
            f"modules at openai+{scheme}: need the package {error.name}: pip install 'shieldmesh[services]'"
        ) from None
    base_url = f"{scheme}://{address.netloc}/{path}".rstrip("/")
    return OpenAITarget(base_url, unquote(model), api_key or _key(options))


def _key(options: dict[str, str]) -> str:
    name = options.get("key_env")
    if name is None:
        return ""
    key = os.environ.get(name, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(f"the environment variable {name} must hold the key, one line of printable ASCII")
    return key
