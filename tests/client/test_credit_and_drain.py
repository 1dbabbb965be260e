"""Credit: what waits for it, what bounds the queues, and how a receiver asks for what there is."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.client.peers import Outbox, Peer, Scene, staged
from tests.client.sites import RunningSite, until
from van.amqp.delivery import Delivery as EngineDelivery
from van.amqp.delivery import Holder
from van.amqp.delivery_state import ACCEPTED, Received
from van.amqp.link import Link
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.client import Message, connect

TEXT = Message().encode() or b"\x00\x53\x77\x40"


async def test_a_sender_waits_until_somebody_receives(site: RunningSite) -> None:
    async with connect(site.url()) as connection, connection.sender("orders") as sender:
        with trio.move_on_after(0.05) as scope:
            await sender.wait_for_credit()
        assert scope.cancelled_caught
        assert sender.credit == 0
        async with connection.receiver("orders", credit=1):
            await sender.wait_for_credit()
            assert sender.credit > 0


async def test_the_queue_of_a_sender_is_bounded(site: RunningSite) -> None:
    async with connect(site.url()) as connection, connection.sender("orders", max_pending=2) as sender:
        sender.send_nowait("1")
        sender.send_nowait("2")
        with pytest.raises(trio.WouldBlock):
            sender.send_nowait("3")
        with trio.move_on_after(0.05) as scope:
            await sender.submit("3")
        assert scope.cancelled_caught
        assert sender.pending == 2
        async with connection.receiver("orders") as receiver:
            for body in ("1", "2"):
                delivery = await receiver.receive()
                assert delivery.body == body
                delivery.accept()
            await sender.submit("3")
            (await receiver.receive()).accept()
            await sender.wait_settled()
            assert sender.pending == 0


async def test_the_queue_of_a_sender_is_bounded_in_octets(site: RunningSite) -> None:
    async with connect(site.url()) as connection:
        with pytest.raises(RuntimeError, match="enough"):
            async with connection.sender("nobody") as sender:
                sender.send_nowait(bytes(9 << 20))
                with pytest.raises(trio.WouldBlock):
                    sender.send_nowait("one more")
                raise RuntimeError("enough")


async def test_a_receiver_holds_no_more_than_its_credit(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders", credit=4) as receiver,
        connection.sender("orders", settled=True) as sender,
    ):
        for number in range(20):
            await sender.submit(str(number))
        await until(lambda: receiver.queued == 4)
        await wait_all_tasks_blocked()
        assert (receiver.queued, receiver.credit) == (4, 0)
        for number in range(20):
            assert (await receiver.receive()).body == str(number)


async def test_credit_by_hand(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders", credit=0) as receiver,
        connection.sender("orders", settled=True) as sender,
    ):
        for text in ("a", "b", "c"):
            await sender.submit(text)
        with pytest.raises(trio.WouldBlock):
            receiver.receive_nowait()
        receiver.grant(2)
        assert [(await receiver.receive()).body for _ in range(2)] == ["a", "b"]
        assert receiver.credit == 0
        receiver.grant(1)
        assert (await receiver.receive()).body == "c"
        with pytest.raises(ValueError, match="at least 1"):
            receiver.grant(0)


async def test_drain_brings_what_there_is_and_ends_the_iteration(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders", credit=0) as receiver,
        connection.sender("orders", settled=True) as sender,
    ):
        receiver.grant(10)
        for text in ("a", "b", "c"):
            await sender.send(text)
        await receiver.drain()
        assert receiver.credit == 0
        assert [delivery.body async for delivery in receiver] == ["a", "b", "c"]
        with pytest.raises(trio.EndOfChannel):
            await receiver.receive()
        with pytest.raises(trio.EndOfChannel):
            receiver.receive_nowait()
        await sender.send("d")
        receiver.grant(1)
        assert (await receiver.receive()).body == "d"
        await receiver.drain()
        with pytest.raises(trio.EndOfChannel):
            receiver.receive_nowait()


class Generous(Outbox):
    """Answers a drain by using all the credit: then there is none to be given back."""

    __slots__ = ()

    def credit_changed(self, link: SenderLink) -> None:
        if link.drain and not self.states:
            self.states.append("drained")
            for _ in range(link.link_credit):
                self.undelivered.append(EngineDelivery(None, -1, b"", TEXT, True, Holder()))


async def test_a_drain_ends_also_when_all_credit_is_used() -> None:
    class Full(Scene):
        def attach(self, peer: Peer, link: Link) -> None:
            super().attach(peer, link)
            assert isinstance(link, SenderLink)
            link.source = Generous()

    async with staged(Full()) as scene, connect(scene.url) as connection:
        async with connection.receiver("orders", credit=3) as receiver:
            await receiver.drain()
            assert receiver.credit == 0
            assert len([delivery async for delivery in receiver]) == 3


async def test_whoever_waits_for_a_delivery_sees_the_end_of_a_drain(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        trio.open_nursery() as nursery,
    ):

        async def all_of_them() -> None:
            assert [delivery async for delivery in receiver] == []

        nursery.start_soon(all_of_them)
        await wait_all_tasks_blocked()
        await receiver.drain()


async def test_a_peer_that_gives_credit_back_gets_it_again() -> None:
    async with staged(Scene()) as scene, connect(scene.url) as connection:
        async with connection.receiver("orders", credit=4) as receiver:
            link = scene.peer.links[0]
            assert isinstance(link, SenderLink)
            await scene.until(lambda: link.link_credit == 4)
            link.delivery_count += 4
            link.link_credit = 0
            link.announce()
            scene.peer.on_wake()
            await scene.until(lambda: link.link_credit == 4)
            scene.peer.send(link, TEXT)
            await receiver.receive()


async def test_a_delivery_that_is_aborted_gives_its_credit_back() -> None:
    async with staged(Scene()) as scene, connect(scene.url) as connection:
        async with connection.receiver("orders", credit=1) as receiver:
            link = scene.peer.links[0]
            assert isinstance(link, SenderLink)
            await scene.until(lambda: link.link_credit == 1)
            scene.peer.send(link, bytes(200_000), more=True)
            await scene.until(lambda: link.link_credit == 0)
            link.abort_current()
            scene.peer.on_wake()
            await scene.until(lambda: link.link_credit == 1)
            scene.peer.send(link, TEXT)
            assert (await receiver.receive()).payload == TEXT


async def test_more_messages_than_one_turn_leave_the_others_their_turn() -> None:
    async with staged(Scene()) as scene, connect(scene.url) as connection:
        async with connection.receiver("orders", credit=200) as receiver:
            link = scene.peer.links[0]
            assert isinstance(link, SenderLink)
            for _ in range(200):
                scene.peer.send(link, TEXT, settled=True)
            await until(lambda: receiver.queued == 200)
            others = 0

            async def count_turns() -> None:
                nonlocal others
                while True:
                    others += 1
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(count_turns)
                for _ in range(200):
                    await receiver.receive()
                nursery.cancel_scope.cancel()
            assert 2 <= others < 20


async def test_a_terminal_state_without_settlement_is_settled_by_the_sender() -> None:
    def state_only(link: ReceiverLink, delivery: EngineDelivery) -> None:
        link.update(delivery, Received(section_number=0, section_offset=0))
        link.update(delivery, ACCEPTED)

    async with staged(Scene(answer=state_only)) as scene, connect(scene.url) as connection:
        async with connection.sender("orders") as sender:
            assert (await sender.send("x")).accepted
            link = scene.peer.links[0]
            assert isinstance(link, ReceiverLink)
            await scene.until(lambda: not link.session.unsettled_in)
