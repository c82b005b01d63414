"""SessionService as the gateway calls it."""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from services.orchestrator.log.turn_log import owner
from services.orchestrator.running import RunningTurns
from shieldmesh.context import ID_PATTERN
from shieldmesh.errors import InvalidArgumentError, NotFoundError
from shieldmesh.v1 import session_pb2, session_pb2_grpc

from .store import About, Entry, Key, SessionStore

DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 100


class SessionServicer(session_pb2_grpc.SessionServiceServicer):
    """See `shieldmesh.v1.SessionService`."""

    def __init__(self, store: SessionStore, turns: RunningTurns) -> None:
        self._store = store
        self._turns = turns

    async def GetSession(  # noqa: N802  # the contract's name
        self, request: session_pb2.GetSessionRequest, context: object
    ) -> session_pb2.GetSessionResponse:
        """See `shieldmesh.v1.SessionService.GetSession`."""
        del context
        about = await self._store.about(_own(request.session_id))
        if about is None:
            raise _not_found()
        return session_pb2.GetSessionResponse(session=_session(about))

    async def ListSessions(  # noqa: N802  # the contract's name
        self, request: session_pb2.ListSessionsRequest, context: object
    ) -> session_pb2.ListSessionsResponse:
        """See `shieldmesh.v1.SessionService.ListSessions`."""
        del context
        size = _size(request.page_size)
        after = _from_token(request.page_token)
        if not ID_PATTERN.fullmatch(after or "-"):
            raise _no_token()
        found = await self._sessions(after, size + 1)
        more = len(found) > size
        return session_pb2.ListSessionsResponse(
            sessions=map(_session, found[:size]), next_page_token=_to_token(found[size - 1].session) if more else ""
        )

    async def ListTurns(  # noqa: N802  # the contract's name
        self, request: session_pb2.ListTurnsRequest, context: object
    ) -> session_pb2.ListTurnsResponse:
        """See `shieldmesh.v1.SessionService.ListTurns`."""
        del context
        key = _own(request.session_id)
        size = _size(request.page_size)
        after = _from_token(request.page_token)
        if not (after or "0").isdecimal():
            raise _no_token()
        entries = await self._store.entries(key)
        if entries is None:
            raise _not_found()
        rest: list[Entry] = [entry for entry in entries if entry.number > int(after or 0)]
        return session_pb2.ListTurnsResponse(
            turns=[session_pb2.SessionTurn.FromString(entry.body) for entry in rest[:size]],
            next_page_token=_to_token(str(rest[size - 1].number)) if len(rest) > size else "",
        )

    async def DeleteSession(  # noqa: N802  # the contract's name
        self, request: session_pb2.DeleteSessionRequest, context: object
    ) -> session_pb2.DeleteSessionResponse:
        """See `shieldmesh.v1.SessionService.DeleteSession`."""
        del context
        key = _own(request.session_id)
        # The store comes last: one that is asked again after a failure still finds what is left.
        turns = await self._store.turns(key)
        for turn in turns:
            await self._forget(turn)
        last = await self._store.delete(key)
        if last is None:
            raise _not_found()
        for turn in set(last) - set(turns):
            await self._forget(turn)
        return session_pb2.DeleteSessionResponse()

    async def _forget(self, turn: str) -> None:
        """Ends a turn if it runs, and deletes what the turn log has of it."""
        record = await self._turns.log.find(turn)
        if record is not None:
            if not record.sealed:
                await self._turns.stop(turn)
            await self._turns.log.forget(turn)

    async def _sessions(self, after: str, most: int) -> Sequence[About]:
        ours = owner()
        if ours.tenant:
            return await self._store.sessions(ours.tenant, after, most)
        only = await self._store.about(Key("", ours.session)) if ours.session > after else None
        return [] if only is None else [only]


def _own(session: str) -> Key:
    """The key of a session that the current caller may see.

    Raises:
        InvalidArgumentError: it is no session's id.
        NotFoundError: it is of somebody else, if of anybody.
    """
    if not ID_PATTERN.fullmatch(session):
        message = "the session's id is not one: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -"
        raise InvalidArgumentError(message, field="session_id")
    ours = owner()
    if not ours.tenant and ours.session != session:
        raise _not_found()
    return Key(ours.tenant, session)


def _not_found() -> NotFoundError:
    message = "there is no such session, or not for this caller: it may be over for long, or have no history"
    return NotFoundError(message, reason="SESSION_NOT_FOUND", field="session_id")


def _session(about: About) -> session_pb2.Session:
    return session_pb2.Session(
        session_id=about.session,
        created_at=_timestamp(about.created),
        used_at=_timestamp(about.used),
        expires_at=_timestamp(about.expires),
        turns=about.turns,
    )


def _timestamp(seconds: float) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(round(seconds * 1_000_000))
    return timestamp


def _size(asked: int) -> int:
    if asked > LARGEST_PAGE:
        raise InvalidArgumentError(f"expected at most {LARGEST_PAGE}, or 0 for {DEFAULT_PAGE}", field="page_size")
    return asked or DEFAULT_PAGE


def _to_token(place: str) -> str:
    return urlsafe_b64encode(place.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise _no_token() from None


def _no_token() -> InvalidArgumentError:
    return InvalidArgumentError("expected the next_page_token of the page before", field="page_token")
