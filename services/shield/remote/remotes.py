"""Which remote shields this service may call, with which credentials, and when it leaves them alone."""

from collections.abc import Collection, Mapping
from typing import Final

import grpc

from shieldmesh.affinity import LoopPool
from shieldmesh.profile.options import remote_url

from .breaker import Breaker

SETTING: Final = "SHIELDMESH_SHIELD_REMOTES"


class Remotes:
    """What the service's settings say about remote shields. The default is: there are none."""

    def __init__(
        self,
        allowed: Collection[str] = (),
        *,
        authorizations: Mapping[str, str] | None = None,
        failures: int = 5,
        pause: float = 10.0,
    ) -> None:
        """Takes what was set.

        Args:
            allowed: URLs that may be called, with all that lies below them.
            authorizations: The value of the `authorization` header by URL; it holds for what lies below, too.
            failures: After so many in a row a remote is left alone.
            pause: For so many seconds.

        Raises:
            ValueError: a URL is wrong, or credentials would travel in plain text.
        """
        self._allowed = frozenset(map(_normal, allowed))
        self._authorizations = {_normal(url): value for url, value in (authorizations or {}).items()}
        for url in self._authorizations:
            if url.startswith(("grpc:", "unix:")):
                raise ValueError(f"{url}: credentials of a ShieldService travel with TLS alone: use grpcs://")
        self._failures = failures
        self._pause = pause
        self._credentials: dict[str, grpc.ChannelCredentials] = {}
        self._breakers: LoopPool[str, Breaker] = LoopPool(_let_go)

    def allow(self, url: str) -> bool:
        """Whether a URL in normal form may be called."""
        return any(_lies_below(url, each) for each in self._allowed)

    def authorization(self, url: str) -> str:
        """The value of the `authorization` header for a URL, or ""; of several, that of the longest URL."""
        above = [each for each in self._authorizations if _lies_below(url, each)]
        return self._authorizations[max(above, key=len)] if above else ""

    def credentials(self, url: str) -> grpc.ChannelCredentials | None:
        """Those of a channel to a ShieldService: None without TLS. The same ones each time, so channels are shared."""
        if not url.startswith("grpcs:"):
            return None
        value = self.authorization(url)
        if value not in self._credentials:
            self._credentials[value] = _tls(value)
        return self._credentials[value]

    def breaker(self, url: str) -> Breaker:
        """The running loop's memory of the failures at a URL."""
        return self._breakers.get(url, lambda: Breaker(url, failures=self._failures, pause=self._pause))


def _normal(url: str) -> str:
    try:
        return remote_url(url)
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from None


def _lies_below(url: str, above: str) -> bool:
    return url == above or url.startswith(f"{above}/")


def _tls(authorization: str) -> grpc.ChannelCredentials:
    tls = grpc.ssl_channel_credentials()
    if not authorization:
        return tls

    return grpc.composite_channel_credentials(tls, grpc.metadata_call_credentials(_Authorization(authorization)))


class _Authorization(grpc.AuthMetadataPlugin):
    """Adds the header to each call."""

    def __init__(self, value: str) -> None:
        self._metadata = (("authorization", value),)

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        del context
        callback(self._metadata, None)


async def _let_go(_breaker: Breaker) -> None:
    """A breaker holds nothing."""
