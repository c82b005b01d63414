"""A channel to a server of this process."""

from collections.abc import Callable
from typing import Any, Final

import grpc

from shieldmesh.inprocess.call import Call, Deserialize, Serialize, Status
from shieldmesh.inprocess.server import find

_MISSING: Final = Status(grpc.StatusCode.UNAVAILABLE, "no server of this process has this name")


class Channel(grpc.aio.Channel):
    """Calls to one target of this process; see `grpc.aio.Channel`. A server is looked for with each call."""

    def __init__(self, target: str) -> None:
        self._target = target

    # The messages differ per method and are checked at the generated stubs: Any is what grpc.aio itself says.

    def unary_unary(self, method: str, *codec: Any, **more: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method(method, *codec, **more, sends_one=True)

    def unary_stream(self, method: str, *codec: Any, **more: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method(method, *codec, **more, sends_one=True)

    def stream_unary(self, method: str, *codec: Any, **more: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method(method, *codec, **more, sends_one=False)

    def stream_stream(self, method: str, *codec: Any, **more: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method(method, *codec, **more, sends_one=False)

    async def close(self, grace: float | None = None) -> None:
        """There is no connection."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Whether the server is there."""
        del try_to_connect
        found = find(self._target) is not None
        return grpc.ChannelConnectivity.READY if found else grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Nobody waits for this in one process."""

    async def channel_ready(self) -> None:
        """Nobody waits for this in one process."""

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _method(
        self,
        method: str,
        request_serializer: Serialize | None = None,
        response_deserializer: Deserialize | None = None,
        *,
        sends_one: bool,
        _registered_method: bool | None = None,
    ) -> Callable[..., Call]:
        def begin(
            *request: object,
            timeout: float | None = None,
            metadata: grpc.aio.Metadata | None = None,
            **_options: object,
        ) -> Call:
            call = Call(request_serializer, response_deserializer, timeout)
            server = find(self._target)
            if server is None:
                call.end(_MISSING)
                return call
            if sends_one:
                call.send_only(request[0])
            pairs = tuple((key, value) for key, value in metadata or () if isinstance(value, str))
            server.serve(call, method, pairs)
            return call

        return begin
