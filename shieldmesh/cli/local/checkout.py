"""The checkout whose services are to run."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import shieldmesh

PACKAGES: Final = ("grpc_health", "pydantic_settings", "structlog", "uvloop", "yaml")
"""What no service can start without."""


class CheckoutError(Exception):
    """There is nothing here that could be started; the message says what to do."""


def find(working_directory: Path) -> Path:
    """The directory that holds `services/` and `gateway/`: the one this package lies in, or the working directory.

    Raises:
        CheckoutError: there is none, or the packages its services need are missing.
    """
    package = Path(shieldmesh.__file__).resolve().parent
    for root in (package.parent, working_directory):
        if (root / "services").is_dir() and (root / "gateway").is_dir():
            missing = [name for name in PACKAGES if find_spec(name) is None]
            if missing:
                raise CheckoutError(
                    f"the services need packages that are not installed ({', '.join(missing)}): "
                    "run `make install`, or `pip install -e '.[services]'` in the checkout"
                )
            return root
    raise CheckoutError(
        "the services are not part of the installed package: run this in a checkout of Shieldmesh, "
        "or run them as containers (deploy/)"
    )
