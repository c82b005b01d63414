"""Envoy as a plain proxy, over HTTP and over gRPC: the floor of a hop that looks at nothing."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.hop import engine_service
from benchmarks.load import Load
from benchmarks.system import Engines, Running, System, free_port, program

from . import environments
from .http import Setup, peer

_CONNECTION_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_PROTOCOLS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_SETTINGS = "Two worker threads, no access log, no admin listener, no time limits, no filters but the router."

Config = dict[str, Any]  # Any: Envoy's configuration


def systems() -> tuple[System, System]:
    """HTTP/1.1 on both sides, and gRPC on both."""
    version = environments.version("envoy")
    return (
        System("envoy-http", f"Envoy {version}, HTTP proxy", _SETTINGS, peer("envoy", _configure)),
        System("envoy-grpc", f"Envoy {version}, gRPC proxy", f"{_SETTINGS} In front of our inference service.", _grpc),
    )


def _configure(directory: Path, _engines: Engines, address: str, port: int) -> Setup:
    host, _, number = address.rpartition(":")
    where = {"socket_address": {"address": host, "port_value": int(number)}}
    return Setup(_command(directory, _config(port, where, http2=False)))


@asynccontextmanager
async def _grpc(engines: Engines) -> AsyncGenerator[Running]:
    async with engine_service(engines) as (directory, target):
        port = free_port()
        config = _config(port, {"pipe": {"path": target.removeprefix("unix:")}}, http2=True)
        async with program(_command(directory, config), port) as pid:
            yield Running(Load(f"127.0.0.1:{port}", "engine"), Load(target, "engine"), {"envoy": pid})


def _command(directory: Path, config: Config) -> list[str]:
    path = directory / "envoy.yaml"
    path.write_text(yaml.safe_dump(config))
    quiet = ["--log-level", "error", "--disable-hot-restart"]
    return [environments.program("envoy", "envoy"), "-c", str(path), "--concurrency", "2", *quiet]


def _config(port: int, upstream: Mapping[str, object], *, http2: bool) -> Config:
    manager: Config = {
        "@type": _CONNECTION_MANAGER,
        "stat_prefix": "bench",
        "codec_type": "AUTO",
        "stream_idle_timeout": "0s",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [_route()]}]},
    }
    protocol: Config = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    options: Config = {"@type": f"type.googleapis.com/{_PROTOCOLS}", "explicit_http_config": protocol}
    cluster: Config = {
        "name": "engine",
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {_PROTOCOLS: options},
        "circuit_breakers": {"thresholds": [_no_limits()]},
        "load_assignment": {
            "cluster_name": "engine",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": dict(upstream)}}]}],
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": filters}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _route() -> Config:
    return {"match": {"prefix": "/"}, "route": {"cluster": "engine", "timeout": "0s"}}


def _no_limits() -> Config:
    return dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 100_000)
