"""Being cancelled loses no message in silence, and blocks nobody."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.client.peers import Peer, Scene, staged
from tests.client.sites import RunningSite, until
from van.amqp.delivery import Delivery
from van.amqp.link import Link
from van.amqp.receiver_link import ReceiverLink
from van.client import OutcomeState, connect


def keep(link: ReceiverLink, delivery: Delivery) -> None:
    """Say nothing of a delivery."""


async def test_a_message_whose_sender_is_cancelled_before_there_is_credit_is_not_sent(site: RunningSite) -> None:
    async with connect(site.url()) as connection, connection.sender("orders") as sender:
        with trio.move_on_after(0.05) as scope:
            await sender.send("not this one")
        assert scope.cancelled_caught
        assert sender.pending == 0
        tracker = sender.send_nowait("but this one")
        async with connection.receiver("orders") as receiver:
            delivery = await receiver.receive()
            assert delivery.body == "but this one"
            delivery.accept()
            assert (await tracker.wait()).accepted


async def test_an_outcome_that_nobody_waits_for_any_more_does_not_keep_the_block(site: RunningSite) -> None:
    async with connect(site.url()) as connection, connection.receiver("orders") as receiver:
        async with connection.sender("orders") as sender:
            with trio.move_on_after(0.05) as scope:
                await sender.send("x")
            assert scope.cancelled_caught
            assert sender.pending == 0
        assert (await receiver.receive()).body == "x"


async def test_a_late_outcome_of_a_cancelled_send_harms_nobody() -> None:
    async with staged(Scene(answer=keep)) as scene, connect(scene.url) as connection:
        async with connection.sender("orders") as sender:
            with trio.move_on_after(0.05):
                await sender.send("x")
            link = scene.peer.links[0]
            assert isinstance(link, ReceiverLink)
            scene.answer = lambda link, delivery: link.settle(delivery, None)
            link.sink.answer = scene.answer  # type: ignore[attr-defined]
            link.settle(next(iter(link.session.unsettled_in.values())), None)
            scene.peer.on_wake()
            assert (await sender.send("y")).accepted


async def test_cancelled_in_the_middle_of_a_large_message_it_is_aborted() -> None:
    class Slow(Scene):
        def attach(self, peer: Peer, link: Link) -> None:
            super().attach(peer, link)
            link.session.renew_at = -1

    async with staged(Slow()) as scene, connect(scene.url) as connection:
        async with connection.sender("orders") as sender:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send, bytes(40 << 20))
                await scene.until(lambda: bool(scene.peer.links))
                link = scene.peer.links[0]
                assert isinstance(link, ReceiverLink)
                await scene.until(lambda: link.session.incoming_window == 0)
                nursery.cancel_scope.cancel()
            assert sender.pending == 0
            link.session.renew_at = link.session.window // 2
            link.session.offer_window()
            scene.peer.on_wake()
            await scene.until(lambda: link.sink.aborted == 1)  # type: ignore[attr-defined]
            assert (await sender.send("next")).accepted


async def test_a_receiver_that_is_cancelled_takes_nothing(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        connection.sender("orders", settled=True) as sender,
    ):
        with trio.move_on_after(0.02):
            await receiver.receive()
        await sender.send("x")
        await until(lambda: receiver.queued > 0)
        with trio.CancelScope() as scope:
            scope.cancel()
            await receiver.receive()
        assert scope.cancelled_caught
        assert (await receiver.receive()).body == "x"


async def test_what_a_receiver_leaves_in_its_queue_goes_to_others(site: RunningSite) -> None:
    async with connect(site.url()) as connection, connection.sender("orders") as sender:
        async with connection.receiver("orders") as receiver:
            tracker = sender.send_nowait("x")
            await until(lambda: receiver.queued > 0)
        assert (await tracker.wait()).state is OutcomeState.RELEASED


async def test_leaving_the_block_waits_for_what_was_sent(site: RunningSite) -> None:
    async with connect(site.url()) as connection, connection.receiver("orders") as receiver:
        async with trio.open_nursery() as nursery:

            async def accept_late() -> None:
                delivery = await receiver.receive()
                await wait_all_tasks_blocked(0.01)
                delivery.accept()

            nursery.start_soon(accept_late)
            async with connection.sender("orders") as sender:
                tracker = sender.send_nowait("x")
            outcome = tracker.outcome_now
            assert outcome is not None
            assert outcome.accepted
    with pytest.raises(trio.ClosedResourceError):
        receiver.receive_nowait()


async def test_an_attach_that_is_cancelled_leaves_nothing_behind() -> None:
    class Silent(Scene):
        def attach(self, peer: Peer, link: Link) -> None:
            if link.name.endswith("2"):
                super().attach(peer, link)

    async with staged(Silent()) as scene, connect(scene.url) as connection:
        with trio.move_on_after(0.05) as scope:
            async with connection.sender("orders"):
                raise AssertionError
        assert scope.cancelled_caught
        async with connection.sender("orders") as sender:
            assert (await sender.send("x")).accepted
