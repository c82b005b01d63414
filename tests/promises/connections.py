"""Servers that are reached through a proxy which counts the connections, all in threads: no event loop of a test."""

import socket
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

METHOD = "/test.Peers/Peer"


@dataclass
class Proxy:
    """A TCP proxy on a port of its own.

    Attributes:
        port: Where it listens.
        accepted: Connections so far.
        open: Those that the client has not closed.
        greets_after: Seconds until the server's first words are passed on.
    """

    upstream: int
    greets_after: float = 0.0
    port: int = 0
    accepted: int = 0
    open: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        """Host and port. The host is a name because certificates have names."""
        return f"localhost:{self.port}"

    def wait_until_none_is_open(self) -> None:
        """Returns when every connection is closed; fails after a while."""
        give_up = time.monotonic() + 60
        while self.open:
            assert time.monotonic() < give_up, f"{self.open} connections stay open"
            time.sleep(0.001)

    def serve(self, listener: socket.socket) -> None:
        """Accepts connections until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._guard:
                self.accepted += 1
                self.open += 1
            server = socket.create_connection(("127.0.0.1", self.upstream))
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pump, args=(client, server, self._closed), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _closed(self) -> None:
        with self._guard:
            self.open -= 1

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        time.sleep(self.greets_after)
        self._pump(server, client, None)

    def _pump(self, source: socket.socket, sink: socket.socket, ended: Callable[[], None] | None) -> None:
        with suppress(OSError):  # the other side is gone
            while data := source.recv(65_536):
                sink.sendall(data)
        if ended is not None:
            ended()
        for each in (source, sink):
            with suppress(OSError):  # it was closed already
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def proxied(upstream: int) -> Generator[Proxy]:
    """A counting proxy before a port of this machine."""
    proxy = Proxy(upstream)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.port = listener.getsockname()[1]
        accepting = threading.Thread(target=proxy.serve, args=(listener,))
        accepting.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


@contextmanager
def grpc_server(credentials: grpc.ServerCredentials | None = None) -> Generator[Proxy]:
    """A gRPC server, behind the proxy, whose method tells the address of its caller."""

    def peer(_: bytes, context: grpc.ServicerContext) -> bytes:
        return context.peer().encode()

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(peer)
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads)
        service, _, method = METHOD.lstrip("/").partition("/")
        server.add_registered_method_handlers(service, {method: handler})
        any_port = "127.0.0.1:0"
        port = server.add_secure_port(any_port, credentials) if credentials else server.add_insecure_port(any_port)
        server.start()
        try:
            with proxied(port) as proxy:
                yield proxy
        finally:
            server.stop(None).wait()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:  # the library's name
        body = (self.headers.get("authorization") or "nobody").encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        pass


@contextmanager
def http_server() -> Generator[Proxy]:
    """An HTTP server, behind the proxy, that answers with the authorization it was sent."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            with proxied(server.server_address[1]) as proxy:
                yield proxy
        finally:
            server.shutdown()
            serving.join()
