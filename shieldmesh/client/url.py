"""Where a mesh is: one notation for people, one for gRPC."""

import ipaddress
import os
import re
from typing import Final

from shieldmesh import inprocess
from shieldmesh.channels import TLS

DEFAULT_URL: Final = "127.0.0.1:50051"
DEFAULT_PORT: Final = 50051
MAX_SOCKET_PATH: Final = 107
"""Bytes that a Unix socket's path may have on Linux."""

_PLAIN: Final = ("mesh", "grpc")
_ENCRYPTED: Final = ("meshs", "grpcs")
_EXAMPLES: Final = "mesh://host:50051, meshs://host:50051 (with TLS), host:50051 or unix:/path/to.sock"
_HOST: Final = re.compile(r"\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def parse_url(url: str) -> str:
    """The target that `url` names, as `shieldmesh.channels` takes it; the port is 50051 where none is given.

    Raises:
        ValueError: `url` names no mesh; the message says which forms do.
    """
    if url.startswith("unix:"):
        return _unix(url)
    if url.startswith(inprocess.PREFIX) and len(url) > len(inprocess.PREFIX):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _hosts(url, url)
    # 1. our own schemes, 2. the same with TLS, 3. a name that gRPC resolves itself, 4. anything else
    if scheme in _PLAIN:
        return _hosts(rest.removesuffix("/"), url)
    if scheme in _ENCRYPTED:
        return _encrypted(rest, url)
    if scheme == "dns":
        return f"dns:///{_host_and_port(rest.removeprefix('/'), url)}"
    raise ValueError(f"{url!r} is not the URL of a mesh: {scheme}:// is unknown, expected {_EXAMPLES}")


def _unix(url: str) -> str:
    path = url.removeprefix("unix:")
    if path.startswith("//"):
        path = path.removeprefix("//")
        if not path.startswith("/"):
            raise ValueError(f"{url!r} names no absolute path: expected unix:///path/to.sock or unix:path/to.sock")
    if not path or "\0" in path:
        raise ValueError(f"{url!r} names no socket: expected unix:/path/to.sock")
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise ValueError(f"the socket path in {url!r} has {length} bytes, but at most {MAX_SOCKET_PATH} are possible")
    return f"unix:{path}"


def _hosts(text: str, url: str) -> str:
    """One host, or several of which each call takes the next."""
    if "," not in text:
        return _host_and_port(text, url)
    targets = [_host_and_port(each, url) for each in text.split(",")]
    versions = {_version(target.rpartition(":")[0].strip("[]")) for target in targets}
    if len(versions) > 1 or None in versions:
        raise ValueError(
            f"{url!r} lists hosts that are not all IPv4 or all IPv6 addresses: where names are needed, "
            "expected dns:///name:50051, a name with all the addresses"
        )
    return f"ipv{versions.pop()}:{','.join(targets)}"


def _version(host: str) -> int | None:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


def _encrypted(rest: str, url: str) -> str:
    address, question, query = rest.partition("?")
    target = TLS + _host_and_port(address.removesuffix("/"), url)
    if not question:
        return target
    name, _, path = query.partition("=")
    if name != "ca" or not os.access(path, os.R_OK):
        raise ValueError(f"{url!r} names no file of authorities that can be read: expected ?ca=/path/to/ca.pem")
    return f"{target}?ca={path}"


def _host_and_port(text: str, url: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if not _HOST.fullmatch(host):
        raise ValueError(f"{url!r} is not the URL of a mesh: expected {_EXAMPLES} (IPv6 addresses in brackets)")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{url!r} has no usable port: expected a number from 1 to 65535")
    return f"{host}:{port}"
