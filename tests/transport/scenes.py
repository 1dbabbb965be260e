"""Listeners and clients as scenes need them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trio

from tests.transport.echo import Endpoints
from tests.transport.logbook import Logbook
from van.transport.listener import Listener
from van.transport.url import Url, parse_url


class Stage:
    """A listener that is served, the endpoints that it made, and its log."""

    def __init__(self, listener: Listener, endpoints: Endpoints, logbook: Logbook) -> None:
        self.listener = listener
        self.endpoints = endpoints
        self.logbook = logbook
        self._streams: list[trio.SocketStream] = []

    @property
    def url(self) -> Url:
        return replace(self.listener.url, port=self.listener.port, host="localhost")

    async def line(self, event: str) -> Any:
        """The only log line of this event, when it has been written."""
        await until(lambda: event in self.logbook.events())
        return self.logbook.only(event)

    async def dial(self) -> trio.SocketStream:
        """A bare TCP connection to the listener, closed at the end of the scene at the latest."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.listener.port)
        self._streams.append(stream)
        return stream

    def hang_up(self) -> None:
        for stream in self._streams:
            stream.socket.close()


@asynccontextmanager
async def serving(scheme: str = "amqp", *, port: int = 0, **options: Any) -> AsyncIterator[Stage]:
    logbook = Logbook()
    endpoints = Endpoints()
    url = parse_url(f"{scheme}://127.0.0.1:{port}")
    listener = Listener(url, endpoints, endpoints.wake_touched, logbook.logger, **options)
    await listener.bind()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: listener.serve(task_status=task_status))
        stage = Stage(listener, endpoints, logbook)
        try:
            yield stage
        finally:
            listener.stop_serving()
            stage.hang_up()


async def exchange(stream: trio.abc.Stream, say: bytes, hear: bytes) -> None:
    """Say something, and hear exactly that answer."""
    await stream.send_all(say)
    heard = b""
    with trio.fail_after(10):
        while len(heard) < len(hear):
            data = await stream.receive_some(4096)
            assert data, f"the end, after {heard!r}"
            heard += data
    assert heard == hear


async def until_end(stream: trio.abc.Stream) -> bytes:
    """Everything until the other side hangs up, in whatever manner."""
    heard = b""
    with trio.fail_after(10):
        try:
            while data := await stream.receive_some(4096):
                heard += data
        except trio.BrokenResourceError:
            pass
    return heard


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks work until this holds; `fail_after` of the scene or the runner ends it otherwise."""
    while not condition():
        await trio.lowlevel.checkpoint()
