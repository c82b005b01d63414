"""The meshes that `shieldmesh up` runs on this machine."""

import os
import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

PREFIX: Final = "shieldmesh-"
"""How the directories of meshes' sockets begin."""


def sockets_of(service: str, directory: Path) -> Sequence[str]:
    """Where a service of each running mesh is, in gRPC's notation; only meshes that this user started.

    Args:
        service: Its name.
        directory: Where the directories of the sockets are made: the runtime directory of the meshes.
    """
    sockets = sorted(directory.glob(f"{PREFIX}*/{service}.sock"))
    return [f"unix:{path}" for path in sockets if _ours(path.parent) and _answers(path)]


def _ours(directory: Path) -> bool:
    # In a directory for everybody's files, anybody could put a socket that listens to what we say.
    return not directory.is_symlink() and directory.stat().st_uid == os.geteuid()


def _answers(path: Path) -> bool:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1)
        try:
            return probe.connect_ex(str(path)) == 0
        except OSError:
            return False
