"""Addresses to listen on, looked at before anything is started."""

import errno
import ipaddress
import os
import socket
from contextlib import closing
from typing import Final

from shieldmesh.client.url import MAX_SOCKET_PATH

_ANY: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


class AddressError(Exception):
    """Nobody can listen there; the message says why and what to do."""


def claim(listen: str) -> str:
    """The same address, with a free port where it says port 0.

    Raises:
        AddressError: it is in use, not an address, or none of this machine's.
    """
    if listen.startswith("unix:"):
        return _claim_socket(listen)
    host, colon, port = listen.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) < 65536):
        raise AddressError(f"{listen!r} is no address to listen on: expected host:port or unix:/path")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            # Without it, connections that ended a moment ago would count as a server.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen()
            return f"{host}:{probe.getsockname()[1]}"
    except OSError as error:
        raise AddressError(_reason(listen, error)) from None


def reach(listen: str) -> str:
    """Where a client on this machine reaches a server that listens there."""
    host, _, port = listen.rpartition(":")
    return f"{_ANY[host]}:{port}" if host in _ANY else listen


def is_private(listen: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    host = listen.rpartition(":")[0].strip("[]")
    if listen.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_socket_path(path: str) -> None:
    """Refuses a path that no Unix socket can have.

    Raises:
        AddressError: it is too long; the message says by how much.
    """
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise AddressError(
            f"the socket path {path} has {length} bytes, but at most {MAX_SOCKET_PATH} are possible: "
            "choose a shorter directory with --runtime-dir"
        )


def _claim_socket(listen: str) -> str:
    path = os.path.abspath(listen.removeprefix("unix:"))  # noqa: PTH100  # no links resolved: the name may be short on purpose
    check_socket_path(path)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        if probe.connect_ex(path) == 0:
            raise AddressError(f"{listen} is in use: stop what serves there, or choose another address with --listen")
    return f"unix:{path}"


def _reason(listen: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{listen} is in use: stop what serves there, or choose another address with --listen"
    return f"nobody can listen on {listen}: {error.strerror or error}; choose another address with --listen"
