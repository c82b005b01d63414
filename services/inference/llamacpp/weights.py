"""Where the model file is."""

from importlib import metadata
from pathlib import Path

from .options import BUNDLED_DISTRIBUTION


def find(path: Path | None) -> Path:
    """The GGUF file at `path`, or the one that the bundled distribution ships.

    Raises:
        FileNotFoundError: there is none; the message says what to do.
    """
    found = _bundled() if path is None else path
    if not found.is_file():
        raise FileNotFoundError(f"there is no model file {found}: correct the model's `path`")
    return found


def _bundled() -> Path:
    try:
        files = metadata.files(BUNDLED_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise FileNotFoundError(
        f"the model has no `path`, and the package {BUNDLED_DISTRIBUTION} with the bundled one is not installed: "
        "install it without its dependencies, or give the path of a GGUF file"
    )
