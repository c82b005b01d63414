"""What a request must look like, before anything acts on it. Pure functions over the contract's messages.

Each raises `InvalidArgumentError` with the path of the field that is wrong, and never quotes what a user said.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Final

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import generation_pb2, message_pb2

MAX_STOP_TEXTS: Final = 16
_ROLES: Final = frozenset(message_pb2.Role.values()) - {message_pb2.ROLE_UNSPECIFIED}
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_messages(messages: Sequence[message_pb2.Message], *, max_characters: int, field: str = "messages") -> None:
    """Accepts a conversation: not empty, every message whole, and at most `max_characters` in all.

    Tool calls and their arguments count as text.
    """
    if not messages:
        raise _wrong(field, "at least one message is needed")
    characters = 0
    for number, message in enumerate(messages):
        place = f"{field}[{number}]"
        _check_role(message, place)
        _check_parts(message, place)
        _check_tool_calls(message, place)
        characters += _characters(message)
        if characters > max_characters:
            # Said at the message that goes over the limit; how long the rest is does not matter.
            raise InvalidArgumentError(
                f"{field} have more than the {max_characters} characters that are allowed: send less text",
                reason="TEXT_TOO_LONG",
                field=field,
            )


def check_sampling(sampling: generation_pb2.Sampling, *, field: str = "sampling") -> None:
    """Accepts sampling whose set values are all within the ranges that the contract gives."""
    # A number that is not set reads as 0, which every one of these ranges holds.
    for name, value, low in (
        ("temperature", sampling.temperature, 0),
        ("frequency_penalty", sampling.frequency_penalty, -2),
        ("presence_penalty", sampling.presence_penalty, -2),
    ):
        if not low <= value <= 2:
            raise _wrong(f"{field}.{name}", f"expected {low} to 2, got {value:g}")
    if sampling.HasField("top_p") and not 0 < sampling.top_p <= 1:
        raise _wrong(f"{field}.top_p", f"expected over 0 and up to 1, got {sampling.top_p:g}")
    if sampling.HasField("max_tokens") and sampling.max_tokens < 1:
        raise _wrong(f"{field}.max_tokens", "expected 1 or more, got 0")
    if len(sampling.stop) > MAX_STOP_TEXTS:
        raise _wrong(f"{field}.stop", f"expected at most {MAX_STOP_TEXTS} texts, got {len(sampling.stop)}")
    for number, text in enumerate(sampling.stop):
        if not text:
            raise _wrong(f"{field}.stop[{number}]", "a stop text must not be empty")


def check_tools(tools: Sequence[message_pb2.Tool], *, field: str = "tools") -> None:
    """Accepts tools with well-formed, distinct names, and parameters that are a JSON object."""
    names: set[str] = set()
    for number, tool in enumerate(tools):
        place = f"{field}[{number}]"
        if not _TOOL_NAME.fullmatch(tool.name):
            raise _wrong(f"{place}.name", "expected 1 to 64 of [A-Za-z0-9_-]")
        if tool.name in names:
            raise _wrong(f"{place}.name", "two tools have this name")
        names.add(tool.name)
        if tool.parameters_json_schema:
            _check_json_object(tool.parameters_json_schema, f"{place}.parameters_json_schema")


def check_response_format(response_format: message_pb2.ResponseFormat, *, field: str = "response_format") -> None:
    """Accepts no constraint, or a schema that is a JSON object."""
    if response_format.HasField("json_schema"):
        _check_json_object(response_format.json_schema, f"{field}.json_schema")


def _wrong(field: str, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{field}: {expected}", field=field)


def _check_role(message: message_pb2.Message, place: str) -> None:
    if message.role not in _ROLES:
        names = ", ".join(message_pb2.Role.Name(role) for role in sorted(_ROLES))
        raise _wrong(f"{place}.role", f"expected one of {names}")
    is_result = message.role == message_pb2.ROLE_TOOL
    if is_result and not message.tool_call_id:
        raise _wrong(f"{place}.tool_call_id", "the result of a tool needs the id of the call it answers")
    if message.tool_call_id and not is_result:
        raise _wrong(f"{place}.tool_call_id", "only the result of a tool has one")


def _check_parts(message: message_pb2.Message, place: str) -> None:
    calls_tools = message.role == message_pb2.ROLE_ASSISTANT and message.tool_calls
    if not message.parts and not calls_tools:
        raise _wrong(f"{place}.parts", "at least one part is needed")
    for number, part in enumerate(message.parts):
        if part.WhichOneof("part") is None:
            raise _wrong(f"{place}.parts[{number}]", "a part must be set")


def _check_tool_calls(message: message_pb2.Message, place: str) -> None:
    if message.tool_calls and message.role != message_pb2.ROLE_ASSISTANT:
        raise _wrong(f"{place}.tool_calls", "only an assistant message calls tools")
    for number, call in enumerate(message.tool_calls):
        if not call.id:
            raise _wrong(f"{place}.tool_calls[{number}].id", "a tool call needs an id")
        if not _TOOL_NAME.fullmatch(call.name):
            raise _wrong(f"{place}.tool_calls[{number}].name", "expected 1 to 64 of [A-Za-z0-9_-]")


def _characters(message: message_pb2.Message) -> int:
    return sum(len(part.text) for part in message.parts) + sum(len(call.arguments) for call in message.tool_calls)


def _check_json_object(text: str, place: str) -> None:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _wrong(place, "expected a JSON object as text")


def _refuse_constant(_name: str) -> float:
    # NaN and the infinities are no JSON, though Python reads them.
    raise ValueError(math.nan)
