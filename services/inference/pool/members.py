"""The endpoints of one model: their loads, and what is remembered of their failures."""

import logging
import random
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from typing import Final, Generic, Protocol, TypeVar

from services.inference.backend import Generation
from shieldmesh.breakers import Breaker

from .choice import Candidate, choose
from .options import Circuit

Q_contra = TypeVar("Q_contra", contravariant=True)
Q = TypeVar("Q")

_log: Final = logging.getLogger("shieldmesh.inference.pool")


class Endpoint(Protocol[Q_contra]):
    """A server that one model can be asked at. `Q` is how a request is put to it."""

    @property
    def name(self) -> str:
        """Its address without credentials: what operators, traces and paths call it."""
        ...

    @property
    def generated_tokens(self) -> int:
        """Tokens generated there for this process."""
        ...

    def attempt(self, question: Q_contra, within: float | None) -> Generation:
        """One attempt at the answer.

        Args:
            question: What is asked.
            within: Seconds in which its first token must come; None without a limit of ours.
        """
        ...


class Member(Generic[Q]):
    """An endpoint in a pool.

    Attributes:
        endpoint: Itself.
        breaker: What is remembered of its failures.
        running: Generations that it has now, from this process.
    """

    def __init__(self, model: str, endpoint: Endpoint[Q], circuit: Circuit) -> None:
        self.endpoint = endpoint
        self.breaker = Breaker(failures=circuit.failures, pause=circuit.pause, tell=self._tell)
        self.running = 0
        self._model = model
        self._pause = circuit.pause

    @contextmanager
    def busy(self) -> Generator[None]:
        """A generation runs there inside the block."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    def _tell(self, is_open: bool) -> None:
        name = self.endpoint.name
        if is_open:
            _log.error("%s of the model %s failed too often: it is left alone for %g s", name, self._model, self._pause)
        else:
            _log.info("%s of the model %s answers again", name, self._model)


class Members(Generic[Q]):
    """All endpoints of a model, at least one. Belongs to one loop."""

    def __init__(self, members: Sequence[Member[Q]]) -> None:
        self.all = tuple(members)
        self._by_name = {member.endpoint.name: member for member in members}
        # Who is asked is no secret.
        self._chance = random.Random()  # noqa: S311

    def choose(self, session: str, tried: Collection[str]) -> Member[Q]:
        """The one to ask for this session, rather none of those that were tried.

        Raises:
            UnavailableError: all are left alone; CIRCUIT_OPEN.
        """
        candidates = [
            Candidate(name, member.running, ejected=member.breaker.is_open, tried=name in tried)
            for name, member in self._by_name.items()
        ]
        chosen = choose(candidates, session, self._chance.randrange)
        if chosen is None:
            raise min((member.breaker.refusal() for member in self.all), key=lambda error: error.retry_after or 0.0)
        return self._by_name[chosen.name]

    def has_other(self, tried: Collection[str]) -> bool:
        """Whether somebody may be asked who was not."""
        return any(name not in tried and not member.breaker.is_open for name, member in self._by_name.items())

    @property
    def any_able(self) -> bool:
        """Whether anybody may be asked."""
        return self.has_other(())
