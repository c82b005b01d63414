"""Addresses to listen on."""

import socket
from pathlib import Path

import pytest

from shieldmesh.cli.local.address import AddressError, claim, is_private, reach


def test_a_free_port_is_found() -> None:
    """Port 0 becomes one that can be listened on."""
    host, _, port = claim("127.0.0.1:0").rpartition(":")
    with socket.create_server((host, int(port))):
        assert int(port) > 0


def test_a_port_in_use_is_refused() -> None:
    """A port with a server says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(AddressError, match=f"{address} is in use"):
            claim(address)


def test_a_socket_in_use_is_refused_and_a_stale_one_not(tmp_path: Path) -> None:
    """A socket that somebody answers on is taken; the file of a dead server is no obstacle."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with pytest.raises(AddressError, match="in use"):
            claim(f"unix:{path}")
    assert claim(f"unix:{path}") == f"unix:{path}"


@pytest.mark.parametrize("listen", ["", "host", "host:", ":7", "127.0.0.1:99999", "192.0.2.1:7", "unix:/" + "x" * 107])
def test_what_cannot_be_listened_on_is_refused(listen: str) -> None:
    """An address that is none, or none of this machine's, is one sentence."""
    with pytest.raises(AddressError):
        claim(listen)


def test_a_server_on_all_addresses_is_reached_on_loopback() -> None:
    """0.0.0.0 is where to listen, not where to connect to."""
    assert reach("0.0.0.0:7") == "127.0.0.1:7"
    assert reach("[::]:7") == "[::1]:7"
    assert reach("unix:/s") == "unix:/s"


@pytest.mark.parametrize(
    ("listen", "private"),
    [
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/s", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("example.test:1", False),
    ],
)
def test_what_only_this_machine_can_reach(listen: str, *, private: bool) -> None:
    """Loopback and sockets, by number or name; a name that is not known to be one is not."""
    assert is_private(listen) is private
