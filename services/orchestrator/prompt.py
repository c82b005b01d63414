"""What the model is asked: the profile's words and the client's, after the input shields."""

from collections.abc import Iterable, Mapping, Sequence

from shieldmesh import validation
from shieldmesh.errors import InternalError, InvalidArgumentError
from shieldmesh.profile import Profile
from shieldmesh.v1 import chat_pb2, generation_pb2, inference_pb2, message_pb2, shield_pb2

from .release import Edit, edited


class Prompt:
    """A validated conversation on its way to the model.

    The shields see one text per message, its parts joined as the model reads them, after these the arguments of every
    tool call, then the values of the prompt's variables, and last the texts of the history in the same way. They do not
    see what the application declares beside the conversation: tools, a schema, stop texts.
    """

    def __init__(self, profile: Profile, request: chat_pb2.ChatRequest) -> None:
        """Checks the request against the contract and the profile.

        Raises:
            InvalidArgumentError: something is wrong; `field` names it.
        """
        policy = profile.policy
        validation.check_messages(request.messages, max_characters=policy.limits.input_characters)
        validation.check_sampling(request.sampling)
        validation.check_tools(request.tools)
        validation.check_response_format(request.response_format)
        self._profile = profile
        self._request = request
        self._sampling = _sampling(profile, request.sampling)
        self._messages = list(request.messages)
        self._calls = _calls(self._messages)
        self._history: list[message_pb2.Message] = []
        self._variables = _variables(profile, request.variables)

    def texts(self) -> Sequence[str]:
        """What the input shields inspect."""
        return [
            *map(_text, self._messages),
            *(call.arguments for call in self._calls),
            *self._variables.values(),
            *map(_text, self._history),
            *(call.arguments for call in _calls(self._history)),
        ]

    def new(self) -> Sequence[message_pb2.Message]:
        """What the request says, as it is by now, without instructions."""
        return [message for message in self._messages if message.role != message_pb2.ROLE_SYSTEM]

    def room(self) -> int:
        """Characters that a history may bring beside the request."""
        return self._profile.policy.limits.input_characters - sum(map(len, self.texts()))

    def remember(self, history: Iterable[message_pb2.Message]) -> None:
        """Shows the model what was said before."""
        self._history = list(history)

    def apply(self, edits: Iterable[shield_pb2.Edit]) -> None:
        """Replaces what the shields redact.

        Raises:
            InternalError: an edit fits no text; with part of them applied, text that is to be redacted could stay.
        """
        texts = self.texts()
        by_text: dict[int, list[Edit]] = {}
        for edit in sorted(edits, key=lambda edit: edit.start):
            by_text.setdefault(edit.text_index, []).append(Edit(edit.start, edit.end, edit.replacement))
        for index, group in by_text.items():
            if index >= len(texts):
                raise InternalError(
                    f"the shield service edited text {index} of {len(texts)}, which does not exist",
                    reason="SHIELD_BROKEN",
                )
            self._write(index, edited(texts[index], group))

    def opening(self) -> inference_pb2.GenerateOpen:
        """What the inference service is asked."""
        policy = self._profile.policy
        prompt = policy.prompt if isinstance(policy.prompt, str) else policy.prompt.render(self._variables)
        system = [_system(prompt)] if prompt else []
        instructions = _leading_instructions(self._messages)
        return inference_pb2.GenerateOpen(
            model=policy.model,
            messages=[*system, *self._messages[:instructions], *self._history, *self._messages[instructions:]],
            sampling=self._sampling,
            tools=self._request.tools,
            response_format=self._request.response_format,
            options=self._profile.wording.model_options,
        )

    def _write(self, index: int, text: str) -> None:
        calls, variables = len(self._messages), len(self._messages) + len(self._calls)
        history = variables + len(self._variables)
        if index < calls:
            _rewrite(self._messages[index], text)
        elif index < variables:
            self._calls[index - calls].arguments = text
        elif index < history:
            self._variables[list(self._variables)[index - variables]] = text
        elif index < history + len(self._history):
            _rewrite(self._history[index - history], text)
        else:
            _calls(self._history)[index - history - len(self._history)].arguments = text


def _text(message: message_pb2.Message) -> str:
    return "".join(part.text for part in message.parts)


def _rewrite(message: message_pb2.Message, text: str) -> None:
    del message.parts[:]
    message.parts.add(text=text)


def _calls(messages: Iterable[message_pb2.Message]) -> list[message_pb2.ToolCall]:
    return [call for message in messages for call in message.tool_calls]


def _leading_instructions(messages: Sequence[message_pb2.Message]) -> int:
    """How many messages of the operator or the application begin the conversation."""
    others = (number for number, message in enumerate(messages) if message.role != message_pb2.ROLE_SYSTEM)
    return next(others, len(messages))


def _system(prompt: str) -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.ROLE_SYSTEM, parts=[message_pb2.ContentPart(text=prompt)])


def _variables(profile: Profile, given: Mapping[str, str]) -> dict[str, str]:
    """The values of the variables of the profile's prompt, in the order of their declaration."""
    template = profile.policy.prompt
    if not isinstance(template, str):
        return template.values(given)
    if given:
        raise InvalidArgumentError(f"the prompt of the profile {profile.name} has no variables", field="variables")
    return {}


def _sampling(profile: Profile, asked: generation_pb2.Sampling) -> generation_pb2.Sampling:
    """The profile's sampling with the caller's overrides, as far as the profile allows them."""
    allowed = profile.policy.sampling_overrides
    sampling = generation_pb2.Sampling()
    sampling.CopyFrom(profile.wording.sampling)
    for descriptor, _ in asked.ListFields():
        if descriptor.name not in allowed:
            may = f"only {', '.join(allowed)}" if allowed else "none"
            raise InvalidArgumentError(
                f"the profile {profile.name} does not let callers set {descriptor.name} ({may}): leave it out",
                reason="OVERRIDE_NOT_ALLOWED",
                field=f"sampling.{descriptor.name}",
            )
        # Merging would append stop texts to the profile's instead of replacing them.
        sampling.ClearField(descriptor.name)
    sampling.MergeFrom(asked)
    limit = profile.policy.limits.output_tokens
    if limit is not None:
        if asked.max_tokens > limit:
            raise InvalidArgumentError(
                f"the profile {profile.name} allows answers of at most {limit} tokens, asked for {asked.max_tokens}",
                field="sampling.max_tokens",
            )
        sampling.max_tokens = min(sampling.max_tokens or limit, limit)
    return sampling
