"""The server does what its /openapi.json says: driven by it with right requests, and with all ways to be wrong."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, openapi
from schemathesis.specs.openapi import checks

from services.shield.detector_api.document import CONTENTS, HEALTH
from shieldmesh.profile.options import SHIELD_TYPES

from .detecting import TIMEOUT, detecting

# What these export is generic in what it does not say.
OPENAPI: Final[Any] = openapi
CHECKS: Final[Any] = checks

EXAMPLES: Final = 50
"""Of each kind."""
_KINDS: Final = (
    (HEALTH, "GET", GenerationMode.POSITIVE),
    (CONTENTS, "POST", GenerationMode.POSITIVE),
    (CONTENTS, "POST", GenerationMode.NEGATIVE),
)
"""Of requests: by the document, or against it."""


async def test_every_answer_is_in_the_document() -> None:
    """Requests with any params, right and wrong ones, get a status and a body that the document lists."""
    async with detecting() as client:
        document = (await client.get("/openapi.json")).json()
        # What the params may be depends on the detector, which the document cannot say.
        statuses = await _drive(document, str(client.base_url), excluded=[CHECKS.positive_data_acceptance])
    assert statuses[HEALTH].keys() >= {200}
    assert statuses[CONTENTS].keys() >= {200, 422}


async def test_a_detector_that_is_not_there_is_in_the_document() -> None:
    """The one answer that wrong requests bring only by chance."""
    async with detecting() as client:
        operation = OPENAPI.from_dict((await client.get("/openapi.json")).json())[CONTENTS]["POST"]
        case = operation.Case(
            headers={"detector-id": "nobody"}, body={"contents": ["hi"]}, media_type="application/json"
        )
        response = await asyncio.to_thread(case.call, base_url=str(client.base_url), timeout=TIMEOUT)
        assert response.status_code == 404
        case.validate_response(response)


async def test_every_request_by_the_document_is_answered() -> None:
    """Without params, what the document allows is never refused, and answers have the form that it gives."""
    async with detecting() as client:
        document = (await client.get("/openapi.json")).json()
        (detector,) = document["paths"][CONTENTS]["post"]["parameters"]
        detector["schema"]["enum"] = [name for name in detector["schema"]["enum"] if not _needs_options(name)]
        document["components"]["schemas"]["Contents"]["properties"]["detector_params"]["maxProperties"] = 0
        statuses = await _drive(document, str(client.base_url))
    assert statuses[CONTENTS][200] >= EXAMPLES


async def _drive(document: dict[str, Any], url: str, excluded: Sequence[Any] = ()) -> dict[str, dict[int, int]]:
    """How often each path answered with which status; each answer was checked."""
    statuses: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))

    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    def check(case: Any) -> None:
        response = case.call(base_url=url, timeout=TIMEOUT)
        statuses[case.path][response.status_code] += 1
        case.validate_response(response, excluded_checks=list(excluded))

    def run() -> None:
        schema = OPENAPI.from_dict(document)
        for path, method, mode in _KINDS:
            given(case=schema[path][method].as_strategy(generation_mode=mode))(check)()

    await asyncio.to_thread(run)
    return statuses


def _needs_options(name: str) -> bool:
    return any(field.is_required() for field in SHIELD_TYPES[name].options.model_fields.values())
