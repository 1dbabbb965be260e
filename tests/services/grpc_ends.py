"""Clients and servers of gRPC, by grpcio, with handlers written by hand: octets in, octets out, no generated code.

The service `van.Test` has the four kinds of calls. Answers begin with the server's name, so that one sees who answered.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

SERVICE = "van.Test"
# grpcio waits a second between its attempts to connect, and longer each time; a scene does not want to.
OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no annotations
    """What the server does. `cancelled`: a call was given up by its client; `deadlines` of calls, as they were told."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.cancelled = threading.Event()
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.deadlines: list[float | None] = []
        self.sent = 0

    def reset(self) -> None:
        """Forget what was, for another test."""
        self.cancelled.clear()
        self.begun.clear()
        self.go_on.clear()
        self.deadlines.clear()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method = details.method.rpartition("/")[2]
        make, function = {
            "Unary": (grpc.unary_unary_rpc_method_handler, self.unary),
            "Collect": (grpc.stream_unary_rpc_method_handler, self.collect),
            "Count": (grpc.unary_stream_rpc_method_handler, self.count),
            "Chat": (grpc.stream_stream_rpc_method_handler, self.chat),
            "Fail": (grpc.unary_unary_rpc_method_handler, self.fail),
            "Wait": (grpc.unary_unary_rpc_method_handler, self.wait),
            "Watch": (grpc.unary_stream_rpc_method_handler, self.watch),
            "Pour": (grpc.unary_stream_rpc_method_handler, self.pour),
        }.get(method, (None, None))
        return make(function) if make is not None and function is not None else None

    def unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.deadlines.append(context.time_remaining())
        metadata = dict(context.invocation_metadata())
        if "echo" in metadata:
            context.send_initial_metadata((("echoed", metadata["echo"]),))
            context.set_trailing_metadata((("echoed-bin", b"\0\xff"), ("last", "yes")))
        return self.name + b":" + request

    def collect(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return self.name + b":" + b",".join(requests)

    def count(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(int(request)):
            yield self.name + b":%d" % number

    def chat(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            yield self.name + b":" + request

    def fail(self, request: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: 100 % ünfit")

    def wait(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer when told so, or never: what a client sees that gives up, or whose server dies."""
        context.add_callback(self.cancelled.set)
        self.begun.set()
        self.go_on.wait(20)
        return self.name

    def watch(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """One message, and then nothing for long."""
        context.add_callback(self.cancelled.set)
        yield self.name
        self.begun.set()
        while context.is_active() and not self.go_on.wait(0.02):
            pass

    def pour(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """As many octets as are asked for, in messages of 64 KiB; `sent` is how many were taken from here."""
        self.sent = 0
        message = bytes(65536)
        while self.sent < int(request) and context.is_active():
            self.sent += len(message)
            yield message


@contextlib.contextmanager
def server(name: str, credentials: grpc.ServerCredentials | None = None) -> Iterator[tuple[int, Handlers]]:
    """A server of gRPC in this process, with credentials behind TLS; gives its port and its handlers."""
    handlers = Handlers(name)
    options = [("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", 100)]
    running = grpc.server(ThreadPoolExecutor(max_workers=20), handlers=[handlers], options=options)
    if credentials is None:
        bound = running.add_insecure_port("127.0.0.1:0")
    else:
        bound = running.add_secure_port("127.0.0.1:0", credentials)
    running.start()
    try:
        yield bound, handlers
    finally:
        handlers.go_on.set()
        running.stop(0).wait()


class Stub:
    """The client's side of `van.Test`."""

    def __init__(self, channel: grpc.Channel) -> None:
        def path(method: str) -> str:
            return f"/{SERVICE}/{method}"

        self.unary = channel.unary_unary(path("Unary"))
        self.collect = channel.stream_unary(path("Collect"))
        self.count = channel.unary_stream(path("Count"))
        self.chat = channel.stream_stream(path("Chat"))
        self.fail = channel.unary_unary(path("Fail"))
        self.wait = channel.unary_unary(path("Wait"))
        self.watch = channel.unary_stream(path("Watch"))
        self.pour = channel.unary_stream(path("Pour"))
        self.unknown = channel.unary_unary(path("Unknown"))


@contextlib.contextmanager
def client(port: int) -> Iterator[Stub]:
    """A client with one connection."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        yield Stub(channel)


def status_of(error: grpc.RpcError) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()
    return code


def eventually(condition: Any, patience: float = 20.0) -> None:
    """Wait until something that another process does has happened."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.01)


if __name__ == "__main__":
    import sys

    with server(sys.argv[1]) as (bound, _):
        print(bound, flush=True)
        sys.stdin.read()
