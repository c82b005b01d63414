"""Meshes that run on this machine are found by their sockets."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from shieldmesh.cli.local.discovery import sockets_of


def listen(path: Path) -> socket.socket:
    """A socket that somebody listens on."""
    path.parent.mkdir()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()
    return server


def test_only_services_that_answer_are_found(tmp_path: Path) -> None:
    """A mesh that was killed leaves its sockets behind; nobody answers there."""
    listen(tmp_path / "shieldmesh-dead" / "shield.sock").close()
    with (
        closing(listen(tmp_path / "shieldmesh-a" / "shield.sock")),
        closing(listen(tmp_path / "other" / "shield.sock")),
    ):
        assert sockets_of("shield", tmp_path) == [f"unix:{tmp_path}/shieldmesh-a/shield.sock"]
        assert sockets_of("inference", tmp_path) == []


def test_the_meshes_of_others_are_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one tests may be confidential: it goes to no socket that somebody else has put there."""
    with closing(listen(tmp_path / "shieldmesh-a" / "shield.sock")):
        (tmp_path / "shieldmesh-b").symlink_to(tmp_path / "shieldmesh-a")
        assert len(sockets_of("shield", tmp_path)) == 1
        monkeypatch.setattr("os.geteuid", lambda: 4711)
        assert sockets_of("shield", tmp_path) == []
