"""An HTTP server of another make, for the scenes: digests of uploads, a large file, events on demand, WebSocket echo.

It prints its port.
"""

from __future__ import annotations

import hashlib
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage

seen = threading.Semaphore(0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def answer(self, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def do_PUT(self) -> None:
        self.answer(hashlib.sha256(self.body()).hexdigest().encode())

    def do_GET(self) -> None:
        if self.path == "/large":
            self.answer(random.Random(8).randbytes(1 << 25))
        elif self.path == "/seen":
            seen.release()
            self.answer(b"")
        elif self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(3):
                event = b"data: %d\n\n" % number
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                seen.acquire()
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/echo":
            self.websocket()
        else:
            self.send_error(404)

    def websocket(self) -> None:
        connection = WSConnection(ConnectionType.SERVER)
        fields = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        connection.initiate_upgrade_connection(fields, self.path)
        self.close_connection = True
        while True:
            for event in connection.events():
                if isinstance(event, Request):
                    self.wfile.write(connection.send(AcceptConnection()))
                elif isinstance(event, TextMessage | BytesMessage):
                    self.wfile.write(connection.send(event))
                elif isinstance(event, CloseConnection):
                    self.wfile.write(connection.send(event.response()))
                    return
            self.wfile.flush()
            data = self.connection.recv(65536)
            if not data:
                return
            connection.receive_data(data)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
