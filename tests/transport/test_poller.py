"""Plain sockets are read in one place: together, each once a turn, and without harm to one another."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Self

import pytest
import trio
import trio.testing

from tests.transport.echo import EchoAdaptor, Endpoints
from tests.transport.scenes import until
from van.transport.driver import run_adaptor
from van.transport.info import ConnectionInfo
from van.transport.poller import (
    AT_ONCE_SECONDS,
    AWAKE_FROM,
    AWAKE_SECONDS,
    FLUSH_OCTETS,
    MOST_POINTS,
    PROMPT_SECONDS,
    STAY_LIMIT,
    Poller,
    Promptness,
    Reader,
    elsewhere,
    rung_by,
    the_poller,
)
from van.transport.tcp import NEAR_SEND_BUFFER
from van.transport.url import parse_url

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="no epoll here")

INFO = ConnectionInfo(peer="peer", local="here", transport="tcp", url=parse_url("amqp://127.0.0.1:0"), outgoing=False)
PLENTY = bytes(8 * 1024 * 1024)


class Ends:
    """Connections that `run_adaptor` drives, and the peers' ends of their sockets."""

    def __init__(self, nursery: trio.Nursery, stack: ExitStack) -> None:
        self.nursery = nursery
        self.stack = stack
        self.endpoints = Endpoints()
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        self.endpoints.wake_touched()

    def open(self, pair: tuple[socket.socket, socket.socket] | None = None) -> tuple[EchoAdaptor, socket.socket]:
        ours, theirs = pair or socket.socketpair()
        self.stack.callback(theirs.close)
        adaptor = self.endpoints(INFO)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self.nursery.start_soon(run_adaptor, stream, adaptor, self.flush)
        return adaptor, theirs


@asynccontextmanager
async def driven() -> AsyncIterator[Ends]:
    """Connections of a scene, which end with it."""
    with ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            yield Ends(nursery, stack)
            nursery.cancel_scope.cancel()


def connected_by_tcp() -> tuple[socket.socket, socket.socket]:
    """Ours and theirs: unlike a socket pair's, these ends can be reset."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
        return ours, theirs


async def test_what_comes_in_one_turn_is_flushed_together() -> None:
    async with driven() as ends:
        pairs = [ends.open() for _ in range(5)]
        await trio.testing.wait_all_tasks_blocked()
        ends.flushes = 0
        for _, peer in pairs:
            peer.sendall(b"hello")
        await trio.testing.wait_all_tasks_blocked()
        assert [peer.recv(100) for _, peer in pairs] == [b"hello"] * 5
        assert ends.flushes == 1


async def test_much_is_flushed_in_between() -> None:
    async with driven() as ends:
        pairs = [ends.open() for _ in range(4)]
        for adaptor, peer in pairs:
            adaptor.read_size = FLUSH_OCTETS
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * FLUSH_OCTETS)
            peer.setblocking(False)
        await trio.testing.wait_all_tasks_blocked()
        ends.flushes = 0
        sent = [peer.send(b"!quiet" + bytes(FLUSH_OCTETS // 2)) for _, peer in pairs]
        await trio.testing.wait_all_tasks_blocked()
        assert min(sent) * 4 > FLUSH_OCTETS
        assert 1 < ends.flushes <= 4


async def test_routers_of_one_process_each_flush_their_own() -> None:
    async with driven() as one, driven() as other:
        _, first = one.open()
        _, second = other.open()
        await trio.testing.wait_all_tasks_blocked()
        first.sendall(b"to one")
        second.sendall(b"to the other")
        await trio.testing.wait_all_tasks_blocked()
        assert first.recv(100) == b"to one"
        assert second.recv(100) == b"to the other"


async def test_a_fault_ends_only_the_connection_that_had_it() -> None:
    async with driven() as ends:
        faulty, theirs = socket.socketpair()
        ends.stack.callback(theirs.close)
        crash = ends.endpoints(INFO)
        adaptor, peer = ends.open()
        async with trio.open_nursery() as guarded:

            async def guard() -> None:
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(faulty))
                with pytest.raises(RuntimeError, match="planted fault"):
                    await run_adaptor(stream, crash, ends.flush)

            guarded.start_soon(guard)
            await trio.testing.wait_all_tasks_blocked()
            theirs.sendall(b"!crash")
            peer.sendall(b"hello")
        assert crash.lost == 1
        await trio.testing.wait_all_tasks_blocked()
        assert peer.recv(100) == b"hello"
        assert adaptor.lost == 0


async def test_a_peer_that_ends_and_reads_on_gets_what_is_left() -> None:
    async with driven() as ends:
        adaptor, peer = ends.open()
        adaptor.say(PLENTY)
        await trio.testing.wait_all_tasks_blocked()
        peer.shutdown(socket.SHUT_WR)
        got = 0
        peer.setblocking(False)
        async_peer = trio.socket.from_stdlib_socket(peer)
        with trio.fail_after(30):
            while got < len(PLENTY):
                got += len(await async_peer.recv(1 << 20))
            await until(lambda: adaptor.lost == 1)
        assert adaptor.closed


async def test_a_full_socket_is_written_on_as_its_peer_reads() -> None:
    """In pieces, between which others have their turn."""
    async with driven() as ends:
        adaptor, peer = ends.open()
        _, other = ends.open()
        adaptor.say(PLENTY)
        await trio.testing.wait_all_tasks_blocked()
        peer.setblocking(False)
        async_peer = trio.socket.from_stdlib_socket(peer)
        got = turns = 0
        with trio.fail_after(60):
            for octets in (PLENTY, PLENTY[:100_000]):
                while got < len(octets):
                    got += len(await async_peer.recv(1 << 18))
                    other.sendall(b"hello")
                    await trio.testing.wait_all_tasks_blocked()
                    assert other.recv(100) == b"hello"
                    turns += 1
                assert got == len(octets)
                got = 0
                adaptor.say(PLENTY[:100_000])
                adaptor.on_wake()
        assert turns > 10
        assert not adaptor.lost


@pytest.mark.parametrize("reset", [False, True])
async def test_a_peer_that_goes_while_its_socket_is_full(reset: bool) -> None:
    async with driven() as ends:
        adaptor, peer = ends.open(connected_by_tcp())
        adaptor.say(PLENTY)
        await trio.testing.wait_all_tasks_blocked()
        if reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        peer.close()
        with trio.fail_after(30):
            await until(lambda: adaptor.lost == 1)


async def test_what_a_turn_leaves_is_written_in_the_next() -> None:
    """A flush ends somewhere although the socket takes more: others are waiting."""
    async with driven() as ends:
        adaptor, peer = ends.open()
        await trio.testing.wait_all_tasks_blocked()
        pieces = [bytes((number,)) * 100 for number in range(5)]
        taken: Iterator[list[bytes | memoryview]] = iter([[piece] for piece in pieces])
        adaptor.data_to_send = lambda limit: next(taken, [])  # type: ignore[method-assign]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("van.transport.driver.FLUSH_LIMIT", 150)
            patch.setattr("van.transport.driver.BATCH_SIZE", 100)
            adaptor.on_wake()
            assert len(peer.recv(1000)) == 200
            with trio.fail_after(30):
                await trio.testing.wait_all_tasks_blocked()
            assert len(peer.recv(1000)) == 300


async def test_a_reset_connection_says_why() -> None:
    async with driven() as ends:
        adaptor, peer = ends.open(connected_by_tcp())
        await trio.testing.wait_all_tasks_blocked()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        peer.close()
        with trio.fail_after(30):
            await until(lambda: adaptor.lost == 1)
        assert "reset" in adaptor.reason


class Pings:
    """A thread that sends a ping through its socket as soon as the last one is back, until `stop`."""

    def __init__(self, peer: socket.socket) -> None:
        self.count = 0
        self._peer = peer
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._peer.settimeout(60)
        while not self._stopped.is_set():
            self._peer.sendall(b"ping")
            assert self._peer.recv(100) == b"ping"
            self.count += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        # The last ping has its answer while trio's thread waits here: it is read, but not by a task.
        self._stopped.set()

    def join(self) -> None:
        self._thread.join(60)


class Turns(trio.abc.Instrument):
    """Counts the turns of trio's loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


@asynccontextmanager
async def staying() -> AsyncIterator[tuple[Ends, Pings, Turns]]:
    """A connection that is never quiet, and a poller that would stay for a minute if nobody else had anything to do."""
    async with driven() as ends:
        _, peer = ends.open()
        await trio.testing.wait_all_tasks_blocked()
        poller = the_poller()
        assert poller is not None
        poller.stays = 60.0
        pings, turns = Pings(peer), Turns()
        trio.lowlevel.add_instrument(turns)
        with trio.fail_after(60), pings:
            yield ends, pings, turns
        poller.stays = 0.0
        await trio.to_thread.run_sync(pings.join)


async def test_while_it_stays_nothing_turns() -> None:
    async with staying() as (_, pings, turns):
        await trio.sleep(0.2)
        assert pings.count > 2 * turns.count


async def test_who_waits_for_time_is_on_time() -> None:
    async with staying() as (_, pings, _):
        for _ in range(5):
            await trio.sleep(0.01)
        assert pings.count


async def test_a_task_that_can_run_does() -> None:
    async with staying() as (ends, pings, _):
        adaptor, peer = ends.open()
        await trio.sleep(0.01)
        event = trio.Event()
        said = adaptor.receive_data

        def tell(data: bytes, now: float) -> None:
            said(data, now)
            event.set()

        adaptor.receive_data = tell  # type: ignore[method-assign]
        before = pings.count
        peer.sendall(b"hello")
        await event.wait()
        assert peer.recv(100) == b"hello"
        assert pings.count - before < 100_000


async def test_who_waits_for_a_descriptor_rings() -> None:
    async with staying():
        ours, theirs = socket.socketpair()
        waiting = trio.socket.from_stdlib_socket(ours)
        ours.setblocking(False)
        for _ in range(3):
            threading.Timer(0.02, theirs.sendall, [b"hello"]).start()
            with rung_by(ours.fileno(), -1):
                assert await waiting.recv(100) == b"hello"
        ours.close()
        theirs.close()


async def test_who_waits_elsewhere_is_not_held_up() -> None:
    async with staying():
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        waiting = trio.socket.from_stdlib_socket(ours)
        threading.Timer(0.02, theirs.sendall, [b"hello"]).start()
        with elsewhere():
            assert await waiting.recv(100) == b"hello"
        ours.close()
        theirs.close()


async def test_a_socket_that_rang_may_be_closed_before() -> None:
    poller = the_poller()
    assert poller is not None
    ours, theirs = socket.socketpair()
    with rung_by(ours.fileno()):
        ours.close()
    theirs.close()


async def test_a_fault_of_a_flush_ends_the_connection_that_asked_for_it() -> None:
    faults: list[Exception] = []

    def faulty() -> None:
        if faults:
            raise faults.pop()

    async with driven() as ends:
        ours, theirs = socket.socketpair()
        ends.stack.callback(theirs.close)
        adaptor = ends.endpoints(INFO)
        _, other = ends.open()

        async def guard() -> None:
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            with pytest.raises(RuntimeError, match="planted fault"):
                await run_adaptor(stream, adaptor, faulty)

        ends.nursery.start_soon(guard)
        await trio.testing.wait_all_tasks_blocked()
        faults.append(RuntimeError("planted fault"))
        theirs.sendall(b"hello")
        with trio.fail_after(30):
            await until(lambda: adaptor.lost == 1)
        other.sendall(b"hello")
        await trio.testing.wait_all_tasks_blocked()
        assert other.recv(100) == b"hello"


async def test_who_was_removed_in_the_same_turn_is_not_read() -> None:
    poller = the_poller()
    assert poller is not None
    assert poller is the_poller()
    told: list[int] = []

    class RemovesBoth(Reader):
        def on_readable(self, now: float) -> int:
            assert isinstance(poller, Poller)
            told.append(os.getpid())
            for descriptor in (one, other):
                poller.remove(descriptor)
            return 0

    pairs = [socket.socketpair(), socket.socketpair()]
    one, other = pairs[0][0].fileno(), pairs[1][0].fileno()
    for ours, theirs in pairs:
        theirs.sendall(b"x")
        poller.add(ours.fileno(), RemovesBoth(), lambda: None)
    with trio.fail_after(30):
        await until(lambda: bool(told))
    await trio.testing.wait_all_tasks_blocked()
    assert len(told) == 1
    for pair in pairs:
        for end in pair:
            end.close()


async def test_a_descriptor_that_rang_may_be_another_s() -> None:
    """Its socket is closed at once, and the task that waited for it says so in its next turn."""
    poller = the_poller()
    assert poller is not None
    told: list[int] = []

    class Notes(Reader):
        def on_readable(self, now: float) -> int:
            told.append(len(ours.recv(100)))
            return 0

    gone, its_peer = socket.socketpair()
    descriptor = gone.fileno()
    poller.ring(descriptor)
    gone.close()
    ours, theirs = socket.socketpair()
    assert ours.fileno() == descriptor
    poller.add(descriptor, Notes(), lambda: None)
    poller.ring_no_more(descriptor)
    theirs.sendall(b"hello")
    with trio.fail_after(30):
        await until(lambda: bool(told))
    assert told == [5]
    poller.remove(descriptor)
    for end in (its_peer, ours, theirs):
        end.close()


async def test_a_socket_that_is_full_holds_less_from_then_on_and_loses_nothing() -> None:
    async with driven() as ends:
        ours, theirs = connected_by_tcp()
        ends.open((ours, theirs))
        descriptor = os.dup(ours.fileno())
        theirs.setblocking(False)
        with socket.socket(fileno=descriptor) as seen, trio.fail_after(30):
            sent = received = 0
            bounded = False
            while received < len(PLENTY):
                with suppress(BlockingIOError):
                    sent += theirs.send(PLENTY[sent : sent + FLUSH_OCTETS]) if sent < len(PLENTY) else 0
                await trio.lowlevel.checkpoint()
                bounded = bounded or seen.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * NEAR_SEND_BUFFER
                if bounded or sent == len(PLENTY):
                    with suppress(BlockingIOError):
                        received += len(theirs.recv(FLUSH_OCTETS))
            assert bounded
            assert received == len(PLENTY)


PROMPT = PROMPT_SECONDS / 2
AWAKE = AWAKE_SECONDS / 2
LATE = 2 * PROMPT_SECONDS


def after(*waits: float) -> bool:
    """Whether the wait that follows these is spent awake."""
    promptness = Promptness()
    for seconds in waits:
        promptness.waited(seconds)
    return promptness.awake


def test_prompt_answers_are_awaited_awake_after_some() -> None:
    assert not after(*[PROMPT] * (AWAKE_FROM - 1))
    assert after(*[PROMPT] * AWAKE_FROM)
    assert after(*[PROMPT] * AWAKE_FROM, *[AWAKE] * 1000)


def test_what_was_there_at_once_is_no_answer() -> None:
    assert not after(*[AT_ONCE_SECONDS / 2] * 1000)
    # As in a stream of messages: some were there when we looked, others came between.
    assert not after(*[AT_ONCE_SECONDS / 2, PROMPT, PROMPT] * 1000)


def test_a_message_now_and_then_is_not_awaited_awake() -> None:
    """The outcome of each is prompt, the next message is not."""
    assert not after(*[PROMPT, LATE] * 1000)


def test_one_answer_that_is_late_changes_nothing_two_do() -> None:
    settled = [PROMPT] * AWAKE_FROM + [AWAKE] * MOST_POINTS
    assert after(*settled, LATE)
    assert not after(*settled, LATE, LATE)


def test_answers_that_always_come_a_little_too_late_are_seldom_awaited_awake() -> None:
    promptness = Promptness()
    awake = 0
    for _ in range(900):
        awake += promptness.awake
        promptness.waited(PROMPT)
    assert 90 <= awake <= 100


async def test_whoever_waits_for_answers_lets_others_have_their_turns() -> None:
    """Answers one after another, awaited asleep and awake, until a task beside them has had its turns."""
    turns = 0
    answers = 0

    def peer(end: socket.socket) -> None:
        nonlocal answers
        while turns < 10 or answers < 1000:
            end.sendall(b"%06d" % answers)
            assert end.recv(100) == b"%06d" % answers
            answers += 1

    async def beside() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.005)
            turns += 1

    async with driven() as ends:
        poller = the_poller()
        assert poller is not None
        poller.stays = STAY_LIMIT
        _, end = ends.open()
        end.settimeout(10)
        ends.nursery.start_soon(beside)
        with trio.fail_after(30):
            await trio.to_thread.run_sync(peer, end)
        assert answers >= 1000
