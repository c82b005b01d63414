"""The OpenAPI document of what is served here, at /openapi.json."""

from collections.abc import Iterable
from typing import Final, TypeAlias

from shieldmesh import __version__

from .wire import MAX_CONTENTS

Json: TypeAlias = dict[str, object]

CONTENTS: Final = "/api/v1/text/contents"
HEALTH: Final = "/health"
OPENAPI: Final = "/openapi.json"


def document(detectors: Iterable[tuple[str, str]]) -> Json:
    """The document; `detectors` are names and what they find."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Shieldmesh detectors",
            "version": __version__,
            "description": "The shields of Shieldmesh as detectors of the FMS Guardrails Orchestrator.",
        },
        "paths": {
            CONTENTS: {"post": _contents(dict(detectors))},
            HEALTH: {"get": _health()},
        },
        "components": {"schemas": {"Error": _ERROR, "Contents": _CONTENTS, "Detection": _DETECTION}},
    }


def _contents(detectors: dict[str, str]) -> Json:
    listed = "\n".join(f"- `{name}`: {description}" for name, description in detectors.items())
    return {
        "operationId": "detectInContents",
        "summary": "Looks for something in each of several texts",
        "description": f"The detectors:\n\n{listed}",
        "parameters": [
            {
                "name": "detector-id",
                "in": "header",
                "required": True,
                "description": "Which detector is to look.",
                "schema": {"type": "string", "enum": list(detectors)},
            }
        ],
        "requestBody": {"required": True, "content": _json({"$ref": "#/components/schemas/Contents"})},
        "responses": {
            "200": {
                "description": "A list for each content, in their order, of what was found in it, by place.",
                "content": _json(
                    {"type": "array", "items": {"type": "array", "items": {"$ref": "#/components/schemas/Detection"}}}
                ),
            },
            "404": _failure("There is no such detector."),
            "422": _failure("The request is wrong or too large; the message says where."),
            "500": _failure("The detector failed, or something else did."),
            "503": _failure("The service stops and did not finish the request."),
            "504": _failure("The detector took too long."),
        },
    }


def _health() -> Json:
    return {
        "operationId": "health",
        "summary": "Answers while the server runs",
        "responses": {"200": {"description": "It does.", "content": _json({"type": "string", "enum": ["ok"]})}},
    }


def _failure(description: str) -> Json:
    return {"description": description, "content": _json({"$ref": "#/components/schemas/Error"})}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


_ERROR: Final[Json] = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "integer", "description": "The HTTP status."},
        "message": {"type": "string", "description": "What is wrong and what was expected. Quotes no content."},
    },
}
_CONTENTS: Final[Json] = {
    "type": "object",
    "required": ["contents"],
    "properties": {
        "contents": {
            "type": "array",
            "maxItems": MAX_CONTENTS,
            "items": {"type": "string"},
            "description": "Texts that have nothing to do with each other.",
        },
        "detector_params": {
            "type": "object",
            "default": {},
            "description": "The options of the detector: those of the shield's type in a policy.",
        },
    },
}
_DETECTION: Final[Json] = {
    "type": "object",
    "required": ["start", "end", "text", "detection", "detection_type", "score", "evidence", "metadata"],
    "properties": {
        "start": {"type": "integer", "minimum": 0, "description": "Unicode code points before it in its content."},
        "end": {"type": "integer", "minimum": 0, "description": "Code points up to its end, exclusive."},
        "text": {"type": "string", "description": "What stands there."},
        "detection": {"type": "string", "description": "The kind of finding, for example email."},
        "detection_type": {"type": "string", "description": "The detector."},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "evidence": {"type": "array", "items": {"type": "object"}, "description": "Empty."},
        "metadata": {"type": "object", "description": "Empty."},
    },
}
