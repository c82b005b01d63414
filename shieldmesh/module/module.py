"""Something to talk to, wherever it runs."""

from collections.abc import Sequence
from typing import Final

from shieldmesh.client.conversation import Message, Role, Sampling, Tool
from shieldmesh.client.events import Result
from shieldmesh.client.request import DEFAULT_TIMEOUT
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.module.answer import Answer
from shieldmesh.module.local import Chatty, LocalTarget, Talk
from shieldmesh.module.target import Ask, Target
from shieldmesh.module.url import target_at

_EXPECTED: Final = "expected a URL, an asynchronous generator function of an Ask, or an object with a method chat"


class Module:
    """The same call, the same stream and the same typed errors, in this process or on another machine.

        critic = shieldmesh.Module("grpc://inference:50053/smollm2")
        async for event in critic.chat("Is this right?"):
            ...
        verdict = await critic.ask("Is this right?")

    Inside a service the current context goes along: session, turn, tenant, trace and what is left of the deadline.
    A module is cheap, keeps nothing open by itself, and may be used under one event loop after the other.
    """

    def __init__(self, where: "str | Target | Talk | Chatty", *, api_key: str = "") -> None:
        """Finds what answers.

        Args:
            where: One of
                `mesh://host:port/profile`, a profile of a mesh (`meshs://` with TLS, `mesh+unix:/path?profile=NAME`);
                `grpc://host:port/model`, a model of an InferenceService (`grpcs://`, `grpc+unix:/path?model=NAME`);
                `openai+https://host/v1/model`, one of an OpenAI-compatible server (`openai+http://`);
                an asynchronous generator function that takes an `Ask` and yields texts or events;
                an object whose method `chat` takes what that of `Mesh` takes and gives events or texts.
            api_key: For an OpenAI-compatible server; better named by the URL: `?key_env=VARIABLE`.

        Raises:
            ValueError: the URL names no module, or the key that it names is not there.
            TypeError: it is no module at all.
            ImportError: what a kind of module needs is not installed; the message says what.
        """
        if isinstance(where, str):
            self._target = target_at(where, api_key=api_key)
            return
        if api_key:
            raise ValueError("an api_key is for modules at openai+https:// alone")
        if isinstance(where, Target):
            self._target = where
        elif callable(where) or hasattr(where, "chat"):
            self._target = LocalTarget(where)
        else:
            raise TypeError(f"{type(where).__name__} is no module: {_EXPECTED}")

    def chat(
        self,
        prompt: str | Sequence[Message],
        *,
        sampling: Sampling | None = None,
        tools: Sequence[Tool] = (),
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Answer:
        """One answer, which begins when its first event is asked for.

        Args:
            prompt: What the user says, or the whole conversation.
            sampling: How to choose tokens; what is None is left to the module.
            tools: Functions that the model may call.
            timeout: Seconds the whole answer may take; None leaves it to the current deadline.

        Raises:
            InvalidArgumentError: a value cannot be right; `field` names it.
        """
        if timeout is not None and not timeout > 0:
            raise InvalidArgumentError("the timeout must be more than 0 seconds", field="timeout")
        messages = (Message(Role.USER, prompt),) if isinstance(prompt, str) else tuple(prompt)
        return Answer(self._target.answer(Ask(messages, sampling, tuple(tools), timeout)))

    async def ask(
        self,
        prompt: str | Sequence[Message],
        *,
        sampling: Sampling | None = None,
        tools: Sequence[Tool] = (),
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Result:
        """The whole answer at once; arguments as for `chat`.

        Raises:
            MeshError: the module could not do its job; the error's hops say where.
        """
        return await self.chat(prompt, sampling=sampling, tools=tools, timeout=timeout).result()
