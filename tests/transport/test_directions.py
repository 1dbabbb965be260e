"""An adaptor that reads when it likes, ends one direction of its stream, or resets it: over sockets and others."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.transport.scenes import until
from van.routing.adaptor import Adaptor
from van.transport.driver import run_adaptor
from van.transport.light import LightDriver
from van.transport.poller import the_poller

# More than the sockets of both sides take.
PLENTY = bytes(16 * 1024 * 1024)


class Plain(Adaptor):
    """Keeps what it gets and sends what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.got = bytearray()
        self.eof = False
        self.lost = False
        self.looks = 0
        self.out: list[bytes | memoryview] = []

    def receive_data(self, data: bytes, now: float) -> None:
        self.got += data

    def receive_eof(self, now: float) -> None:
        self.eof = True

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        chunks, self.out = self.out, []
        return chunks

    def look(self) -> None:
        self.looks += 1

    def next_deadline(self) -> float:
        return math.inf

    def connection_lost(self, now: float) -> None:
        self.lost = True

    def end(self) -> None:
        self.closed = True
        self.on_wake()

    def wake(self) -> None:
        """As what is called after each batch."""
        self.on_wake()


Open = Callable[[Adaptor], object]


@asynccontextmanager
async def over_socket(adaptor: Adaptor) -> AsyncIterator[trio.SocketStream]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        peer = await trio.open_tcp_stream("127.0.0.1", port)
        nursery.start_soon(run_adaptor, await listeners[0].accept(), adaptor, nobody)
        await listeners[0].aclose()
        await trio.testing.wait_all_tasks_blocked()
        async with peer:
            yield peer
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def over_memory(adaptor: Adaptor) -> AsyncIterator[trio.abc.HalfCloseableStream]:
    peer, ours = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_adaptor, ours, adaptor, nobody)
        await trio.testing.wait_all_tasks_blocked()
        yield peer
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def over_light(adaptor: Adaptor) -> AsyncIterator[trio.SocketStream]:
    """Without a task of the connection's own."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    peer = await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1])
    stream = await listeners[0].accept()
    await listeners[0].aclose()
    poller = the_poller()
    assert poller is not None
    ends: list[Exception | None] = []
    driver = LightDriver(stream.socket.detach(), adaptor, nobody, poller, ends.append)
    async with peer:
        yield peer
    driver.cut()
    assert ends == [None]


def nobody() -> None:
    """No other adaptor is touched."""


both = pytest.mark.parametrize("opened", [over_socket, over_memory, over_light], ids=["socket", "memory", "light"])
sockets = pytest.mark.parametrize("opened", [over_socket, over_light], ids=["socket", "light"])


@both
async def test_nothing_is_read_until_the_adaptor_wants_it(opened: Open) -> None:
    adaptor = Plain()
    adaptor.reading = False
    async with opened(adaptor) as peer:  # type: ignore[attr-defined]
        await peer.send_all(b"one")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not adaptor.got
        adaptor.reading = True
        adaptor.on_wake()
        await until(lambda: adaptor.got == b"one")
        await peer.send_all(b"two")
        await until(lambda: adaptor.got == b"onetwo")


@both
async def test_reading_stops_in_the_middle_and_goes_on(opened: Open) -> None:
    class Once(Plain):
        def receive_data(self, data: bytes, now: float) -> None:
            super().receive_data(data, now)
            self.reading = False

    adaptor = Once()
    async with opened(adaptor) as peer:  # type: ignore[attr-defined]
        for count in range(1, 4):
            await peer.send_all(b"x")
            await until(lambda: len(adaptor.got) == count)  # noqa: B023 - called within this turn
            await peer.send_all(b"y")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(adaptor.got) == count
            adaptor.got.clear()
            adaptor.got += b"x" * count
            adaptor.reading = True
            adaptor.on_wake()
            await until(lambda: adaptor.got.endswith(b"y"))
            adaptor.got[:] = b"x" * count
            adaptor.reading = True
            adaptor.on_wake()


@both
async def test_one_direction_ends_and_the_other_goes_on(opened: Open) -> None:
    adaptor = Plain()
    async with opened(adaptor) as peer:  # type: ignore[attr-defined]
        adaptor.out.append(PLENTY)
        adaptor.on_wake()
        adaptor.write_ended = True
        received = 0
        while data := await peer.receive_some(1 << 20):
            received += len(data)
            adaptor.on_wake()
        assert received == len(PLENTY)
        await peer.send_all(b"still")
        await until(lambda: adaptor.got == b"still")
        await peer.send_eof()
        await until(lambda: adaptor.eof)
        assert not adaptor.lost
        adaptor.end()
        await until(lambda: adaptor.lost)


@sockets
async def test_a_stream_that_has_ended_both_ways_waits_for_its_reader(opened: Open) -> None:
    adaptor = Plain()
    async with opened(adaptor) as peer:  # type: ignore[attr-defined]
        adaptor.reading = False
        adaptor.write_ended = True
        adaptor.on_wake()
        assert await peer.receive_some() == b""
        await peer.send_all(b"last words")
        await peer.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not adaptor.got
        assert not adaptor.lost
        adaptor.reading = True
        adaptor.on_wake()
        await until(lambda: adaptor.eof)
        assert adaptor.got == b"last words"
        adaptor.end()
        await until(lambda: adaptor.lost)


@sockets
async def test_a_reset_is_noticed_although_nothing_is_read(opened: Open) -> None:
    adaptor = Plain()
    async with opened(adaptor) as peer:  # type: ignore[attr-defined]
        adaptor.reading = False
        adaptor.on_wake()
        peer.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await peer.aclose()
        await until(lambda: adaptor.lost)
        assert "reset" in adaptor.reason


@sockets
async def test_the_peer_sees_a_reset(opened: Open) -> None:
    adaptor = Plain()
    async with opened(adaptor) as peer:  # type: ignore[attr-defined]
        adaptor.resets = True
        adaptor.end()
        with pytest.raises(trio.BrokenResourceError):
            await peer.receive_some()


@sockets
async def test_it_looks_while_the_socket_takes_nothing(opened: Open) -> None:
    adaptor = Plain()
    async with opened(adaptor) as peer:  # type: ignore[attr-defined]
        adaptor.out.append(PLENTY)
        adaptor.on_wake()
        assert adaptor.looks == 0
        adaptor.reading = False
        adaptor.on_wake()
        assert adaptor.looks == 1
        await peer.send_all(b"unread")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not adaptor.got
        adaptor.reading = True
        adaptor.on_wake()
        assert adaptor.looks == 2
        await until(lambda: adaptor.got == b"unread")
        left = len(PLENTY)
        while left:
            left -= len(await peer.receive_some(1 << 20))


async def test_a_fault_while_it_looks_ends_this_connection() -> None:
    class Faulty(Plain):
        def look(self) -> None:
            raise RuntimeError("planted fault")

    adaptor = Faulty()
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="planted fault")):
        async with over_socket(adaptor):
            adaptor.out.append(PLENTY)
            adaptor.on_wake()
            adaptor.on_wake()
            await until(lambda: adaptor.lost)
            await trio.sleep_forever()


@sockets
async def test_who_is_paused_by_another_in_the_turn_in_which_both_could_be_read_is_not_broken(opened: Open) -> None:
    class Pauses(Plain):
        other: Pauses

        def receive_data(self, data: bytes, now: float) -> None:
            super().receive_data(data, now)
            if not self.other.got:
                self.other.reading = False
                self.other.on_wake()

    one, two = Pauses(), Pauses()
    one.other, two.other = two, one
    async with opened(one) as peer, opened(two) as other:  # type: ignore[attr-defined]
        for stream in (peer, other):
            # Without a turn of the loop between.
            os.write(stream.socket.fileno(), b"hello")
        await until(lambda: bool(one.got or two.got))
        await trio.testing.wait_all_tasks_blocked(0.01)
        paused = two if one.got else one
        assert not paused.got
        assert not paused.lost
        paused.reading = True
        paused.on_wake()
        await until(lambda: paused.got == b"hello")


@pytest.mark.parametrize("when", ["receive_data", "data_to_send", "connection_lost"])
async def test_a_fault_of_one_without_a_task_is_told(when: str) -> None:
    class Faulty(Plain):
        def receive_data(self, data: bytes, now: float) -> None:
            super().receive_data(data, now)
            self.closed = when == "connection_lost"
            self._fault("receive_data")

        def data_to_send(self, limit: int) -> list[bytes | memoryview]:
            if self.got:
                self._fault("data_to_send")
            return super().data_to_send(limit)

        def connection_lost(self, now: float) -> None:
            super().connection_lost(now)
            self._fault("connection_lost")

        def _fault(self, where: str) -> None:
            if where == when:
                raise RuntimeError("planted fault")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    peer = await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1])
    stream = await listeners[0].accept()
    await listeners[0].aclose()
    poller = the_poller()
    assert poller is not None
    adaptor = Faulty()
    ends: list[Exception | None] = []
    LightDriver(stream.socket.detach(), adaptor, adaptor.wake, poller, ends.append)
    async with peer:
        await peer.send_all(b"hello")
        await until(lambda: bool(ends))
        assert [str(end) for end in ends] == ["planted fault"]
        assert adaptor.lost
        with pytest.raises(trio.BrokenResourceError):
            await peer.receive_some()
