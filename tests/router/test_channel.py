"""What processes of one site say to one another: in order, whole, with descriptors, until one of them is gone."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.router.running import PATIENCE, PLAIN
from tests.router.site_file import SiteFile
from van.router.channel import Channel, Close, Drain, Over, Ready, Start, Taken, receive_start
from van.router.config import SiteConfig


@asynccontextmanager
async def channels() -> AsyncIterator[tuple[Channel, Channel]]:
    """Both ends, the first of which is written."""
    one, other = map(Channel, socket.socketpair())
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            yield one, other
            nursery.cancel_scope.cancel()
    one.close()
    other.close()


async def test_messages_come_in_order_with_their_descriptors() -> None:
    async with channels() as (one, other):
        ends = []
        for number in range(50):
            reading, writing = os.pipe()
            ends.append(writing)
            one.send(Over(number))
            one.send(Taken(number, "here", (((0, bytes(number * 1000)),), b"sent", 0, ())), reading)
        for number in range(50):
            assert await other.receive() == (Over(number), -1)
            received = await other.receive()
            assert received is not None
            message, descriptor = received
            assert message == Taken(number, "here", (((0, bytes(number * 1000)),), b"sent", 0, ()))
            assert not os.get_inheritable(descriptor)
            os.write(ends[number], b"through")
            assert os.read(descriptor, 10) == b"through"
            os.close(descriptor)
            os.close(ends[number])


async def test_a_message_may_be_larger_than_the_socket_takes() -> None:
    async with channels() as (one, other):
        one.send(Drain("x" * 10_000_000))
        one.send(Close())
        assert await other.receive() == (Drain("x" * 10_000_000), -1)
        assert await other.receive() == (Close(), -1)


async def test_the_end_is_the_others_end() -> None:
    async with channels() as (one, other):
        reading, writing = os.pipe()
        one.send(Ready())
        assert await other.receive() == (Ready(), -1)
        one.close()
        assert await other.receive() is None
        # Nobody takes it: it is closed.
        one.send(Taken(1, "here", None), reading)
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"nobody")
        os.close(writing)


async def test_what_was_not_sent_is_closed_with_the_channel() -> None:
    one, other = map(Channel, socket.socketpair())
    reading, writing = os.pipe()
    one.send(Taken(1, "here", None), reading)
    one.close()
    other.close()
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"nobody")
    os.close(writing)


async def test_a_process_without_room_for_a_descriptor_loses_that_one_only() -> None:
    async with channels() as (one, other):
        reading, writing = os.pipe()
        again = os.dup(reading)
        one.send(Ready())
        assert await other.receive() == (Ready(), -1)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            one.send(Taken(1, "here", None), reading)
            assert await other.receive() == (Taken(1, "here", None), -1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        one.send(Taken(2, "here", None), again)
        received = await other.receive()
        assert received is not None
        message, descriptor = received
        assert message == Taken(2, "here", None)
        assert descriptor >= 0
        os.close(descriptor)
        os.close(writing)


def test_the_first_message_is_read_without_a_loop(site: SiteFile) -> None:
    async def send(config: SiteConfig, sock: socket.socket) -> None:
        channel = Channel(sock)
        channel.send(Start(1, "scene#1", "0", config))
        channel.send(Ready())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        channel.close()

    config = site.load(PLAIN)
    ours, theirs = socket.socketpair()
    trio.run(send, config, ours)
    start = receive_start(theirs)
    assert start is not None
    assert start.config == config
    # What follows is left in the socket.
    assert theirs.recv(1) == b"\x00"
    theirs.close()
    ours, theirs = socket.socketpair()
    ours.close()
    assert receive_start(theirs) is None
    theirs.close()
