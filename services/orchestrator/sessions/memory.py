"""What one turn has to do with the history of its session."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from shieldmesh.context import RequestContext
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.profile import Profile
from shieldmesh.v1 import chat_pb2, message_pb2, session_pb2

from .answer import Answer
from .history import Messages, first_that_fits, recalled
from .store import Entry, Key, SessionStore


class Memory:
    """Recalls at the beginning of a turn what its session said, and keeps the turn at its end.

    Of turns at the same time each sees what was kept when it began; they are kept in the order in which they end.

    Attributes:
        answer: What the turn releases.
    """

    def __init__(self, store: SessionStore, identity: RequestContext, profile: Profile) -> None:
        """`identity` is the turn's.

        Raises:
            InvalidArgumentError: the call names no session.
        """
        if not identity.session_id:
            raise InvalidArgumentError("a history needs a session: name one", field="metadata.x-session-id")
        self.answer = Answer()
        self._store = store
        self._identity = identity
        self._key = Key(identity.tenant_id, identity.session_id)
        self._profile = profile
        self._rules = profile.policy.history
        self._entries: list[Entry] = []
        self._turns: list[Messages] = []

    async def recall(self, new: Messages, characters: int) -> Sequence[message_pb2.Message]:
        """What the model is shown of the session before new messages; at most so many characters.

        Raises:
            InvalidArgumentError: a new message answers a call that is not kept.
            UnavailableError: the sessions cannot be read.
        """
        entries = await self._store.open(self._key, self._identity.request_id, self._rules.retention)
        self._entries = list(entries)
        self._turns = [session_pb2.SessionTurn.FromString(entry.body).messages for entry in entries]
        return recalled(self._turns, new, self._rules.tokens, characters)

    async def keep(self, new: Messages, finished: chat_pb2.TurnFinished) -> None:
        """Keeps the turn if it ended with an answer that no shield blocked, and drops what does not fit any more.

        Raises:
            UnavailableError: it cannot be kept.
        """
        answer = self.answer.message(finished.reason)
        if answer is None:
            return
        now = Timestamp()
        now.GetCurrentTime()
        turn = session_pb2.SessionTurn(
            turn_id=self._identity.request_id,
            profile=self._profile.name,
            profile_version=self._profile.version,
            ended_at=now,
            messages=[*new, answer],
            usage=finished.usage,
        )
        first = first_that_fits([*self._turns, turn.messages], self._rules.tokens)
        await self._store.keep(
            self._key,
            turn.turn_id,
            turn.SerializeToString(),
            drop=[entry.number for entry in self._entries[:first]],
            retention=self._rules.retention,
        )
