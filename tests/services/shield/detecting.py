"""The detector API in this process, on a port of its own, with real shields or one whose answers are known."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from services.shield.catalogue import Catalogue
from services.shield.detector_api import Listening, detector_app, serving
from services.shield.shield import Rules, Shield
from shieldmesh.v1 import policy_pb2

TIMEOUT: Final = 60.0
"""Seconds until a request of a test is given up."""
MAX_CHARACTERS: Final = 1_000
CONTENTS: Final = "/api/v1/text/contents"
BUILT_IN: Final = Catalogue(capacity=64, default_timeout=5.0)


@asynccontextmanager
async def detecting(catalogue: Catalogue = BUILT_IN, call_cap: float = TIMEOUT) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of a server with the shields of the catalogue."""
    app = detector_app(catalogue, max_characters=MAX_CHARACTERS, call_cap=call_cap)
    async with (
        serving(app, Listening("127.0.0.1:0", call_cap, TIMEOUT)) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=TIMEOUT) as client,
    ):
        yield client


async def detect(client: httpx.AsyncClient, detector: str, contents: Sequence[str], **params: Any) -> httpx.Response:
    """What the detector with these options says about the contents."""
    body = {"contents": contents, "detector_params": params}
    return await client.post(CONTENTS, headers={"detector-id": detector}, json=body)


class Given(Catalogue):
    """Has one shield, whatever it is asked for."""

    def __init__(self, shield: Shield) -> None:
        super().__init__(capacity=8, default_timeout=5.0)
        self._given = shield

    async def shields(self, specs: Sequence[policy_pb2.ShieldSpec], field: str = "shields") -> tuple[Shield, ...]:
        del specs, field
        return (self._given,)


def window(timeout: float = TIMEOUT) -> Rules:
    """The rules of a window shield that only reports."""
    return Rules("given", policy_pb2.ACTION_FLAG, {}, fails_open=False, timeout=timeout, kind="window")
