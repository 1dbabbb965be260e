"""A server that is there to be killed: TCP, HTTP/1.1, WebSocket and UDP at one port, gRPC at another.

Usage: `mortal.py NAME PORT GRPC_PORT REPORTS`. When it has a request that it does not answer, it says so by a datagram
of its name to the port `REPORTS`. Over TCP it begins with its name and then echoes; after `stop` it
reads no more. It prints a line when it serves.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

from tests.services.grpc_ends import Handlers

FOREVER = 3600

name = sys.argv[1]
port, grpc_port, reports = (int(argument) for argument in sys.argv[2:])
reporter = socket.socket(type=socket.SOCK_DGRAM)


def report() -> None:
    reporter.sendto(name.encode(), ("127.0.0.1", reports))


def serve(stream: socket.socket) -> None:
    with stream, contextlib.suppress(OSError):
        data = stream.recv(65536)
        if b" HTTP/1.1\r\n" not in data:
            talk(stream, data)
            return
        while b"\r\n\r\n" not in data:
            data += stream.recv(65536)
        answer(stream, data)


def talk(stream: socket.socket, data: bytes) -> None:
    stream.sendall(name.encode() + b"\n")
    while data:
        if data == b"stop\n":
            wait()
        stream.sendall(data)
        data = stream.recv(65536)


def wait() -> None:
    report()
    threading.Event().wait(FOREVER)


def answer(stream: socket.socket, head: bytes) -> None:
    path = head.split(b" ")[1]
    if path == b"/length":
        # Both begin with the name, and never come to an end.
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n%b\n" % name.encode())
        wait()
    elif path == b"/chunked":
        line = name.encode() + b"\n"
        stream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(line), line))
        wait()
    elif path == b"/wait":
        wait()
    elif path == b"/talk":
        websocket(stream, head)
    else:
        line = name.encode() + b"\n"
        stream.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(line), line))


def websocket(stream: socket.socket, data: bytes) -> None:
    connection = WSConnection(ConnectionType.SERVER)
    while data:
        connection.receive_data(data)
        for event in connection.events():
            if isinstance(event, Request):
                stream.sendall(connection.send(AcceptConnection()))
                stream.sendall(connection.send(TextMessage(name)))
            elif isinstance(event, TextMessage):
                stream.sendall(connection.send(event))
        data = stream.recv(65536)


def datagrams() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", port))
        while True:
            _, client = server.recvfrom(2048)
            server.sendto(name.encode(), client)


class Reporting(Handlers):
    """Says that it has a call that waits."""

    def wait(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        report()
        return super().wait(request, context)


calls = grpc.server(ThreadPoolExecutor(10), handlers=[Reporting(name)], options=[("grpc.so_reuseport", 0)])
calls.add_insecure_port(f"127.0.0.1:{grpc_port}")
calls.start()
threading.Thread(target=datagrams, daemon=True).start()
with socket.create_server(("127.0.0.1", port)) as listener:
    print("serves", flush=True)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
