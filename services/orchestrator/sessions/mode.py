"""Who keeps the history of a turn's conversation: the profile's word, or the caller's where the profile allows it."""

from typing import Final

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.profile import Profile
from shieldmesh.profile.policy import HistoryMode
from shieldmesh.v1 import chat_pb2

_WORDS: Final[dict[int, HistoryMode]] = {chat_pb2.HISTORY_NONE: "none", chat_pb2.HISTORY_KEEP: "keep"}


def history(profile: Profile, asked: chat_pb2.History.ValueType) -> HistoryMode:
    """What holds for a turn of this profile.

    Raises:
        InvalidArgumentError: the caller asks for something that does not exist or may not be asked for.
    """
    mode = profile.policy.history.mode
    if asked == chat_pb2.HISTORY_UNSPECIFIED:
        return mode
    word = _WORDS.get(asked)
    if word is None:
        raise InvalidArgumentError(f"expected one of {', '.join(_WORDS.values())}", field="history")
    if word != mode and "history" not in profile.policy.allow_overrides:
        raise InvalidArgumentError(
            f"the profile {profile.name} does not let callers set history ({mode} holds): leave it out",
            reason="OVERRIDE_NOT_ALLOWED",
            field="history",
        )
    return word
