"""Services in this process: `Server` stands where `grpc.aio.server()` would, and `inprocess:NAME` is its target.

The calls are the same as over a network: messages are serialized, interceptors run on both sides, contexts are apart,
deadlines, cancellations, statuses and metadata arrive. What is missing is the connection.
"""

from shieldmesh.inprocess.channel import Channel
from shieldmesh.inprocess.server import PREFIX, Server

__all__ = ["PREFIX", "Channel", "Server"]
