"""What is said, by whom, with which tools, and how tokens are to be chosen: the client's words for the contract's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import generation_pb2, message_pb2


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    """The result of a tool; `Message.tool_call_id` says of which call."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an assistant's message makes; `arguments` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation: `Message("user", "Hello")`."""

    role: Role | str
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """For the role "tool": which call this is the result of."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is a JSON Schema, as an object or as text."""

    name: str
    description: str = ""
    parameters: Mapping[str, object] | str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens. None takes the profile's value; one that the profile does not allow is refused."""

    temperature: float | None = None
    """0 (greedy) to 2."""
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


_ROLES: Final = {
    Role.SYSTEM: message_pb2.ROLE_SYSTEM,
    Role.USER: message_pb2.ROLE_USER,
    Role.ASSISTANT: message_pb2.ROLE_ASSISTANT,
    Role.TOOL: message_pb2.ROLE_TOOL,
}


def message_to_wire(message: Message, index: int) -> message_pb2.Message:
    """The message in the contract's words; `index` is its place in the conversation.

    Raises:
        InvalidArgumentError: it cannot be said; `field` names the place.
    """
    place = f"messages[{index}]"
    if message.role not in _ROLES:
        raise InvalidArgumentError(
            f"the role must be one of {', '.join(_ROLES)}; it is {message.role!r}", field=f"{place}.role"
        )
    text = unicode(message.text, f"{place}.parts[0].text")
    return message_pb2.Message(
        role=_ROLES[Role(message.role)],
        parts=[message_pb2.ContentPart(text=text)] if text or not message.tool_calls else [],
        tool_calls=[
            message_pb2.ToolCall(
                id=unicode(call.id, place), name=unicode(call.name, place), arguments=unicode(call.arguments, place)
            )
            for call in message.tool_calls
        ],
        tool_call_id=unicode(message.tool_call_id, f"{place}.tool_call_id"),
    )


def message_from_wire(message: message_pb2.Message) -> Message:
    """A valid message of the contract, its parts joined."""
    roles = {number: role for role, number in _ROLES.items()}
    return Message(
        role=roles[message.role],
        text="".join(part.text for part in message.parts),
        tool_calls=tuple(ToolCall(call.id, call.name, call.arguments) for call in message.tool_calls),
        tool_call_id=message.tool_call_id,
    )


def tool_to_wire(tool: Tool, index: int) -> message_pb2.Tool:
    """The tool in the contract's words; `index` is its place in the list.

    Raises:
        InvalidArgumentError: it cannot be said; `field` names the place.
    """
    place = f"tools[{index}]"
    try:
        schema = tool.parameters if isinstance(tool.parameters, str) else json.dumps(tool.parameters)
    except (TypeError, ValueError):
        message = f"{place}.parameters_json_schema: expected what JSON can say"
        raise InvalidArgumentError(message, field=f"{place}.parameters_json_schema") from None
    return message_pb2.Tool(
        name=unicode(tool.name, f"{place}.name"),
        description=unicode(tool.description, f"{place}.description"),
        parameters_json_schema=unicode(schema, f"{place}.parameters_json_schema"),
    )


def tool_from_wire(tool: message_pb2.Tool) -> Tool:
    """A tool of the contract."""
    return Tool(tool.name, tool.description, tool.parameters_json_schema)


def sampling_to_wire(sampling: Sampling | None) -> generation_pb2.Sampling | None:
    """The sampling in the contract's words; None stays None.

    Raises:
        InvalidArgumentError: a value is out of its type's range.
    """
    if sampling is None:
        return None
    try:
        return generation_pb2.Sampling(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            stop=sampling.stop,
        )
    except ValueError as error:
        raise InvalidArgumentError("a sampling value is out of its type's range", field="sampling") from error


def sampling_from_wire(sampling: generation_pb2.Sampling) -> Sampling:
    """A sampling of the contract, with what it sets."""
    given = {field.name: value for field, value in sampling.ListFields() if field.name != "stop"}
    return Sampling(**given, stop=tuple(sampling.stop))


def unicode(text: str, field: str) -> str:
    """The text itself; refuses what UTF-8 cannot say, for example halves of surrogate pairs from an odd command line.

    Raises:
        InvalidArgumentError: it is no valid Unicode.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError("the text is not valid Unicode", field=field) from None
    return text
