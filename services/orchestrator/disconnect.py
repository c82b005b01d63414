"""What becomes of a turn whose caller goes away: the profile's word, or the caller's where the profile allows it."""

from typing import Final

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.profile import Profile
from shieldmesh.profile.policy import Disconnect
from shieldmesh.v1 import chat_pb2

_WORDS: Final[dict[int, Disconnect]] = {
    chat_pb2.DISCONNECT_CANCEL: "cancel",
    chat_pb2.DISCONNECT_DRAIN: "drain",
    chat_pb2.DISCONNECT_DETACH: "detach",
}


def disconnect(profile: Profile, asked: chat_pb2.Disconnect.ValueType) -> Disconnect:
    """What holds for a turn of this profile.

    Raises:
        InvalidArgumentError: the caller asks for something that does not exist or may not be asked for.
    """
    policy = profile.policy
    if asked == chat_pb2.DISCONNECT_UNSPECIFIED:
        return policy.disconnect
    word = _WORDS.get(asked)
    if word is None:
        raise InvalidArgumentError(f"expected one of {', '.join(_WORDS.values())}", field="disconnect")
    if word != policy.disconnect and "disconnect" not in policy.allow_overrides:
        raise InvalidArgumentError(
            f"the profile {profile.name} does not let callers set disconnect ({policy.disconnect} holds): leave it out",
            reason="OVERRIDE_NOT_ALLOWED",
            field="disconnect",
        )
    return word


def to_wire(word: Disconnect) -> chat_pb2.Disconnect.ValueType:
    """The contract's name of it."""
    return chat_pb2.Disconnect.Value(f"DISCONNECT_{word.upper()}")
