"""The end of a router: nobody new comes in, what is under way is settled, the rest goes back, and soon it is over."""

from __future__ import annotations

import pytest
import trio

from tests.router.running import PLAIN, Running, running, until, until_end
from tests.router.site_file import SiteFile
from van.amqp.errors import ErrorCondition
from van.amqp.framing import AMQP_HEADER, encode_frame
from van.amqp.performatives import Open
from van.client import OutcomeState, UnreachableError, connect
from van.router import site as site_module

FORCED = (ErrorCondition.CONNECTION_FORCED, "router scene is shutting down")


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little time for what will never be settled."""
    monkeypatch.setattr(site_module, "SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(site_module, "CLOSE_SECONDS", 0.2)


async def ended(scene: Running) -> int | None:
    await scene.over.wait()
    assert scene.lines("stopped")
    return scene.code


async def test_with_nobody_there_it_ends_at_once(site: SiteFile) -> None:
    async with running(site) as scene:
        scene.site.drain("a test")
        assert await ended(scene) == 0
        assert (await scene.line("draining"))["reason"] == "a test"


@pytest.mark.parametrize("capacity", [1, 250])
async def test_what_is_under_way_is_settled_first(site: SiteFile, capacity: int) -> None:
    async with (
        running(site, f"{PLAIN}link_capacity = {capacity}\n") as scene,
        connect(scene.url()) as theirs,
        connect(scene.url()) as ours,
        theirs.receiver("orders", credit=1) as receiver,
        ours.sender("orders") as sender,
        ours.sender("nobody"),
    ):
        tracker = sender.send_nowait("one coffee")
        delivery = await receiver.receive()
        scene.site.drain("a test")
        assert (await scene.line("draining"))["in_flight"] == 1
        assert ours.open
        delivery.accept()
        assert (await tracker.wait()).accepted
        for connection in (ours, theirs):
            error = await connection.wait_closed()
            assert error is not None
            assert (error.condition, error.description) == FORCED
        assert await ended(scene) == 0
        assert [line["by"] for line in scene.lines("connection closed")] == ["us", "us"]
        assert not scene.lines("not settled in time, given back to their senders")


async def test_what_waits_when_the_end_comes_may_still_be_taken(site: SiteFile) -> None:
    async with (
        running(site) as scene,
        connect(scene.url()) as theirs,
        connect(scene.url()) as ours,
        theirs.receiver("orders", credit=0) as receiver,
        ours.sender("orders") as sender,
    ):
        trackers = [sender.send_nowait(f"coffee {number}") for number in range(5)]
        await until(lambda: scene.site.in_flight() == 5)
        scene.site.drain("a test")
        await scene.line("draining")
        receiver.grant(5)
        for _ in range(5):
            (await receiver.receive()).accept()
        assert [(await tracker.wait()).state for tracker in trackers] == [OutcomeState.ACCEPTED] * 5


@pytest.mark.usefixtures("hurry")
async def test_what_is_not_settled_in_time_goes_back_to_its_sender(site: SiteFile) -> None:
    async with (
        running(site) as scene,
        connect(scene.url()) as theirs,
        connect(scene.url()) as ours,
        theirs.receiver("orders", credit=0) as receiver,
        ours.sender("orders") as sender,
    ):
        receiver.grant(1)
        seen, unseen = sender.send_nowait("seen"), sender.send_nowait("unseen")
        await receiver.receive()
        await until(lambda: scene.site.in_flight() == 2)
        scene.site.drain("a test")
        # A receiver has it, and may have worked on it; the other one nobody has seen.
        assert (await seen.wait()).state is OutcomeState.MODIFIED
        assert (await unseen.wait()).state is OutcomeState.RELEASED
        error = await ours.wait_closed()
        assert error is not None
        assert (error.condition, error.description) == FORCED
        assert await ended(scene) == 0
        assert (await scene.line("not settled in time, given back to their senders"))["deliveries"] == 2


async def test_senders_get_no_more_credit(site: SiteFile) -> None:
    text = f"{PLAIN}link_capacity = 4\n"
    async with (
        running(site, text) as scene,
        connect(scene.url()) as theirs,
        connect(scene.url()) as ours,
        theirs.receiver("orders", credit=10) as receiver,
        ours.sender("orders") as sender,
    ):
        first = sender.send_nowait("0")
        delivery = await receiver.receive()
        scene.site.drain("a test")
        await scene.line("draining")
        # Its client gives back the credit that it was asked for.
        await until(lambda: sender.credit == 0)
        delivery.accept()
        assert (await first.wait()).accepted
        async with theirs.sender("orders") as late:
            assert late.credit == 0
        await ours.wait_closed()
        assert sender.credit == 0


async def test_nobody_new_comes_in(site: SiteFile) -> None:
    async with (
        running(site) as scene,
        connect(scene.url()) as theirs,
        theirs.receiver("orders", credit=1) as receiver,
        theirs.sender("orders") as sender,
    ):
        url = scene.url()
        tracker = sender.send_nowait("x")
        delivery = await receiver.receive()
        scene.site.drain("a test")
        await scene.line("draining")
        with pytest.raises(UnreachableError):
            async with connect(url):
                pass
        delivery.accept()
        await tracker.wait()


@pytest.mark.usefixtures("hurry")
async def test_a_peer_that_does_not_answer_is_cut(site: SiteFile) -> None:
    async with running(site) as scene, scene.dial() as stream:
        await stream.send_all(AMQP_HEADER + encode_frame(0, Open(container_id="mute").encode()))
        await scene.line("connection opened")
        scene.site.drain("a test")
        heard = await until_end(stream)
        assert ErrorCondition.CONNECTION_FORCED.encode() in heard
        assert await ended(scene) == 0
        closed = await scene.line("connection closed")
        assert (closed["by"], closed["reason"]) == ("us", ": ".join(FORCED))
        assert (await scene.line("connections cut"))["count"] == 1


@pytest.mark.usefixtures("hurry")
async def test_who_is_still_shaking_hands_is_cut(site: SiteFile) -> None:
    async with running(site) as scene, scene.dial() as silent, scene.dial() as stream:
        await stream.send_all(AMQP_HEADER)
        await until(lambda: len(scene.site.adaptors) == 1 and scene.site.listeners[0].connections == 2)
        scene.site.drain("a test")
        assert await until_end(silent) == b""
        await until_end(stream)
        assert await ended(scene) == 0


WEBSOCKET = b"""\
GET / HTTP/1.1\r
host: here\r
upgrade: websocket\r
connection: upgrade\r
sec-websocket-version: 13\r
sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r
sec-websocket-protocol: amqp\r
\r
"""


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("now", [False, True])
async def test_a_websocket_that_is_never_closed_from_there_holds_nobody_up(site: SiteFile, now: bool) -> None:
    async with running(site, PLAIN.replace("amqp:", "ws:")) as scene, scene.dial() as stream:
        await stream.send_all(WEBSOCKET)
        assert b" 101 " in await stream.receive_some()
        await until(lambda: len(scene.site.adaptors) == 1)
        begun = trio.current_time()
        if now:
            scene.site.stop()
        else:
            scene.site.drain("a test")
        assert await ended(scene) == 0
        assert trio.current_time() - begun < 2


async def test_stopped_now_whatever_is_under_way(site: SiteFile) -> None:
    async with (
        running(site) as scene,
        connect(scene.url()) as theirs,
        theirs.receiver("orders", credit=1) as receiver,
        theirs.sender("orders") as sender,
    ):
        sender.send_nowait("x")
        await receiver.receive()
        scene.site.drain("a test")
        await scene.line("draining")
        begun = trio.current_time()
        scene.site.stop()
        assert await ended(scene) == 0
        assert trio.current_time() - begun < 1
        assert await theirs.wait_closed() is not None
