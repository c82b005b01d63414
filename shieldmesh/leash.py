"""Runs a module as a program that cannot outlive the process that started it.

`python -m shieldmesh.leash PARENT MODULE` is `python -m MODULE`, but when the process with the id PARENT dies, in
whatever way, the kernel kills this one. On systems other than Linux it is plain `python -m MODULE`.
"""

import ctypes
import os
import runpy
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Ties this process to its parent and becomes the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    tie(parent)
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def tie(parent: int) -> None:
    """Has the kernel kill this process when its parent dies.

    Raises:
        SystemExit: the parent is dead already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have died before the kernel was told.
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")


if __name__ == "__main__":
    main()
