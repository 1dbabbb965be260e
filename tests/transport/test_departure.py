"""A stream that goes on elsewhere: nothing of it is lost, read twice, or closed."""

from __future__ import annotations

import pytest
import trio

from tests.transport.scenes import serving, until
from van.transport.dial import open_stream

# More than the socket of a client takes at once.
PLENTY = bytes(range(256)) * 8192


@pytest.mark.parametrize("waiting", [b"", PLENTY], ids=["nothing to write", "much to write"])
async def test_what_is_written_goes_out_first_and_what_follows_is_left_in_the_socket(waiting: bytes) -> None:
    async with serving() as stage, open_stream(stage.url) as (stream, _):
        await stream.send_all(b"!open")
        assert await stream.receive_some() == b"opened"
        (adaptor,) = stage.endpoints.made
        adaptor.say(waiting)
        adaptor.on_wake()
        await stream.send_all(b"!depart")
        await until(lambda: adaptor.departs)
        await stream.send_all(b"for whoever comes next")
        heard = b""
        while len(heard) < len(waiting):
            heard += await stream.receive_some()
        assert heard == waiting
        await until(lambda: adaptor.lost == 1)
        assert adaptor.carried is not None
        with adaptor.carried as elsewhere:
            assert elsewhere.recv(100) == b"for whoever comes next"
            elsewhere.sendall(b"here I am")
            assert await stream.receive_some() == b"here I am"


async def test_who_hangs_up_while_it_departs_is_lost_here() -> None:
    async with serving() as stage:
        stream = await stage.dial()
        await stream.send_all(b"!open")
        await until(lambda: any(adaptor.opened for adaptor in stage.endpoints.made))
        (adaptor,) = stage.endpoints.made
        adaptor.say(PLENTY * 8)
        adaptor.on_wake()
        await stream.send_all(b"!depart")
        await until(lambda: adaptor.departs)
        # With octets unread: the peer hears of it at once.
        stream.socket.close()
        with trio.fail_after(10):
            await until(lambda: adaptor.lost == 1)
        assert adaptor.carried is None
