"""When the peer refuses, detaches, ends or vanishes: who waits hears why, and what became of each message."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.client.peers import Peer, Scene, staged
from tests.client.sites import RunningSite, until
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import TransactionalState
from van.amqp.errors import AmqpError, AmqpLinkError, AmqpSessionError, ErrorCondition
from van.amqp.events import LinkDetached, SessionEnded
from van.amqp.link import Link
from van.amqp.performatives import Attach
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.terminus import Source, Target
from van.client import (
    ClientError,
    ConnectionClosedError,
    LinkDetachedError,
    LinkRefusedError,
    Message,
    MessageTooLargeError,
    Outcome,
    OutcomeState,
    SessionEndedError,
    connect,
)


def keep(link: ReceiverLink, delivery: Delivery) -> None:
    """Say nothing of a delivery."""


class Refusing(Scene):
    def attach(self, peer: Peer, link: Link) -> None:
        peer.refuse(link, AmqpLinkError(ErrorCondition.NOT_FOUND, "no such node"))


async def test_an_address_that_the_router_refuses(site: RunningSite) -> None:
    async with connect(site.url()) as connection:
        with pytest.raises(LinkRefusedError, match="amqp:not-found") as caught:
            async with connection.sender("closed/for/ever"):
                raise AssertionError
        assert caught.value.condition == "amqp:not-found"
        with pytest.raises(LinkRefusedError):
            async with connection.receiver("closed/for/ever"):
                raise AssertionError
        # The connection is as good as before.
        async with connection.receiver("orders"):
            pass


async def test_a_refusal_in_which_the_attach_has_no_terminus() -> None:
    async with staged(Refusing()) as scene, connect(scene.url) as connection:
        for link in (connection.sender("a"), connection.receiver("a")):
            with pytest.raises(LinkRefusedError, match=r"^amqp:not-found: no such node$"):
                async with link:
                    raise AssertionError


async def test_a_refusal_right_behind_an_attach_that_looks_good() -> None:
    class Fickle(Scene):
        def attach(self, peer: Peer, link: Link) -> None:
            super().attach(peer, link)
            link.detach(AmqpLinkError(ErrorCondition.UNAUTHORIZED_ACCESS, "not you"))

    async with staged(Fickle()) as scene, connect(scene.url) as connection:
        with pytest.raises(LinkRefusedError, match="not you"):
            async with connection.sender("a"):
                raise AssertionError


async def test_a_link_that_is_detached_with_messages_under_way() -> None:
    async with staged(Scene(credit=1, answer=keep)) as scene, connect(scene.url) as connection:
        async with connection.sender("orders") as sender:
            sent = sender.send_nowait("sent")
            waiting = sender.send_nowait("waits for credit")
            link = scene.peer.links[0]
            assert isinstance(link, ReceiverLink)
            await scene.until(lambda: bool(link.session.unsettled_in))
            link.detach(AmqpLinkError(ErrorCondition.DETACH_FORCED, "maintenance"))
            scene.peer.on_wake()
            assert await sent.wait() == Outcome(OutcomeState.IN_DOUBT, "amqp:link:detach-forced", "maintenance")
            with pytest.raises(LinkDetachedError, match="maintenance"):
                await waiting.wait()
            with pytest.raises(LinkDetachedError, match="maintenance"):
                await sender.send("later")
            with pytest.raises(LinkDetachedError):
                await sender.wait_for_credit()
            # Nobody waited for it when it failed, so the block's end would tell; here it has been told.
            with pytest.raises(LinkDetachedError):
                await sender.wait_settled()
        async with connection.sender("orders"):
            pass


async def test_the_end_of_the_block_tells_that_messages_were_not_sent() -> None:
    async with staged(Scene(credit=0)) as scene, connect(scene.url) as connection:
        with pytest.raises(LinkDetachedError, match="maintenance"):
            async with connection.sender("orders") as sender:
                sender.send_nowait("nobody looks after it")
                scene.peer.links[0].detach(AmqpLinkError(ErrorCondition.DETACH_FORCED, "maintenance"))
                scene.peer.on_wake()


async def test_a_detach_without_a_reason() -> None:
    async with staged(Scene()) as scene, connect(scene.url) as connection:
        async with connection.receiver("orders") as receiver:
            scene.peer.links[0].detach()
            scene.peer.on_wake()
            with pytest.raises(LinkDetachedError, match="the peer detached the link") as caught:
                await receiver.receive()
            assert caught.value.condition == ""
            with pytest.raises(LinkDetachedError):
                receiver.receive_nowait()
            with pytest.raises(LinkDetachedError):
                await receiver.drain()


async def test_the_end_of_the_session_ends_its_links_and_a_new_one_is_begun() -> None:
    async with staged(Scene()) as scene, connect(scene.url) as connection:
        async with connection.receiver("orders") as receiver, connection.sender("orders") as sender:
            scene.peer.links[0].session.end(AmqpSessionError(ErrorCondition.RESOURCE_LIMIT_EXCEEDED, "too much"))
            scene.peer.on_wake()
            with pytest.raises(SessionEndedError, match="amqp:resource-limit-exceeded: too much"):
                await receiver.receive()
            with pytest.raises(SessionEndedError):
                sender.send_nowait("x")
        async with connection.sender("orders") as sender:
            assert (await sender.send("x")).accepted


@pytest.mark.parametrize("cut", [False, True])
async def test_the_end_of_the_connection(cut: bool) -> None:
    async with staged(Scene(credit=1, answer=keep)) as scene:
        async with connect(scene.url) as connection:
            async with connection.sender("orders") as sender, connection.receiver("orders") as receiver:
                link = next(link for link in scene.peer.links if isinstance(link, SenderLink))
                incoming = next(link for link in scene.peer.links if isinstance(link, ReceiverLink))
                scene.peer.send(link, b"\x00\x53\x77\x40")
                scene.peer.send(link, b"\x00\x53\x77\x41", settled=True)
                taken = await receiver.receive()
                sent = sender.send_nowait("sent")
                await scene.until(lambda: bool(incoming.session.unsettled_in))
                if cut:
                    scene.peer.closed = True
                    scene.peer.on_wake()
                else:
                    scene.peer.connection.close(AmqpError(ErrorCondition.CONNECTION_FORCED, "going down"))
                    scene.peer.on_wake()
                error = await connection.wait_closed()
                assert isinstance(error, ConnectionClosedError)
                text = "the stream ended" if cut else "amqp:connection:forced: going down"
                assert text in str(error)
                assert (await sent.wait()).state is OutcomeState.IN_DOUBT
                with pytest.raises(ConnectionClosedError, match=text):
                    await sender.send("later")
                with pytest.raises(ConnectionClosedError, match=text):
                    taken.accept()
                # What was sent settled is ours, whatever happened afterwards.
                assert (await receiver.receive()).body is True
                with pytest.raises(ConnectionClosedError, match=text):
                    await receiver.receive()
            with pytest.raises(ConnectionClosedError, match=text):
                async with connection.sender("orders"):
                    raise AssertionError


async def test_an_orderly_close_by_the_peer() -> None:
    async with staged(Scene()) as scene, connect(scene.url) as connection:
        scene.peer.connection.close()
        scene.peer.on_wake()
        error = await connection.wait_closed()
        assert isinstance(error, ConnectionClosedError)
        assert (error.condition, error.description, error.by_peer) == ("", "closed by the peer", True)


async def test_everybody_who_waits_gets_an_error_of_their_own() -> None:
    errors: list[ClientError] = []
    async with staged(Scene(credit=0)) as scene, connect(scene.url) as connection:
        async with connection.receiver("orders") as receiver, connection.sender("orders", max_pending=1) as sender:

            async def wait_for_a_delivery() -> None:
                with pytest.raises(LinkDetachedError) as caught:
                    await receiver.receive()
                errors.append(caught.value)

            async def wait_for_room() -> None:
                with pytest.raises(LinkDetachedError) as caught:
                    await sender.submit("2")
                errors.append(caught.value)

            async def wait_for_credit() -> None:
                with pytest.raises(LinkDetachedError) as caught:
                    await sender.wait_for_credit()
                errors.append(caught.value)

            async def wait_for_an_outcome() -> None:
                with pytest.raises(LinkDetachedError) as caught:
                    await tracker.wait()
                errors.append(caught.value)

            tracker = sender.send_nowait("1")
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(wait_for_a_delivery)
                for waiting in (wait_for_room, wait_for_credit, wait_for_an_outcome):
                    nursery.start_soon(waiting)
                await wait_all_tasks_blocked()
                for link in scene.peer.links:
                    link.detach(AmqpLinkError(ErrorCondition.DETACH_FORCED, "off"))
                scene.peer.on_wake()
    assert len(errors) == len({id(error) for error in errors}) == 5
    assert {str(error) for error in errors} == {"amqp:link:detach-forced: off"}


async def test_a_peer_that_sends_too_much_is_detached() -> None:
    async with staged(Scene()) as scene, connect(scene.url) as connection:
        async with connection.receiver("orders", credit=1) as receiver:
            link = scene.peer.links[0]
            assert isinstance(link, SenderLink)
            await scene.until(lambda: link.link_credit == 1)
            link.link_credit = 5
            for _ in range(3):
                scene.peer.send(link, b"\x00\x53\x77\x40", settled=True)
            with pytest.raises(LinkDetachedError):
                for _ in range(3):
                    await receiver.receive()
            await scene.until(lambda: any(isinstance(event, LinkDetached) for event in scene.peer.events))


async def test_messages_beyond_what_the_peer_takes_are_not_sent() -> None:
    async with staged(Scene(max_message_size=100)) as scene, connect(scene.url) as connection:
        async with connection.sender("orders") as sender:
            with pytest.raises(MessageTooLargeError, match="a message of 1008 octets, where the peer takes 100"):
                await sender.send(bytes(1000))
            assert (await sender.send(bytes(50))).accepted


async def test_a_state_that_nobody_knows_leaves_the_message_in_doubt() -> None:
    def transactional(link: ReceiverLink, delivery: Delivery) -> None:
        link.settle(delivery, TransactionalState(txn_id=b"1"))

    async with staged(Scene(answer=transactional)) as scene, connect(scene.url) as connection:
        async with connection.sender("orders") as sender:
            outcome = await sender.send("x")
            assert outcome.state is OutcomeState.IN_DOUBT
            assert "TransactionalState" in outcome.description


async def test_settled_without_a_state_counts_as_accepted() -> None:
    def shrug(link: ReceiverLink, delivery: Delivery) -> None:
        link.settle(delivery, None)

    async with staged(Scene(answer=shrug)) as scene, connect(scene.url) as connection:
        async with connection.sender("orders") as sender:
            assert (await sender.send("x")).accepted


async def test_a_delivery_that_is_settled_before_its_end_is_not_sent_to_the_end() -> None:
    class Impatient(Scene):
        def attach(self, peer: Peer, link: Link) -> None:
            super().attach(peer, link)
            # One frame at a time: the rest waits for the window.
            link.session.renew_at = -1

    def never(link: ReceiverLink, delivery: Delivery) -> None:
        raise AssertionError("it came to its end")

    async with staged(Impatient(answer=never)) as scene, connect(scene.url) as connection:
        async with connection.sender("orders") as sender:
            tracker = sender.send_nowait(bytes(40 << 20))
            link = scene.peer.links[0]
            assert isinstance(link, ReceiverLink)
            await scene.until(lambda: bool(link.session.unsettled_in) and link.session.incoming_window == 0)
            link.settle(next(iter(link.session.unsettled_in.values())), None)
            scene.peer.on_wake()
            assert (await tracker.wait()).accepted


async def test_the_sender_may_settle_by_itself() -> None:
    async with staged(Scene()) as scene, connect(scene.url) as connection:
        async with connection.receiver("orders") as receiver:
            link = scene.peer.links[0]
            assert isinstance(link, SenderLink)
            mine = scene.peer.send(link, b"\x00\x53\x77\x40")
            delivery = await receiver.receive()
            link.update(mine, None, True)
            scene.peer.on_wake()
            scene.peer.send(link, b"\x00\x53\x77\x40")
            await receiver.receive()
            delivery.accept()


async def test_a_peer_that_attaches_a_link_or_begins_a_session_is_refused() -> None:
    async with staged(Scene()) as scene, connect(scene.url) as connection:
        async with connection.receiver("orders"):
            peer = scene.peer
            mine = peer.links[0].session
            for link in (mine.sender("unasked"), mine.receiver("unasked too")):
                link.attach(
                    Attach(name="", handle=0, role=link.role, source=Source(address="x"), target=Target(address="x"))
                )
            session = peer.connection.session()
            session.begin()
            peer.on_wake()

            def refused() -> bool:
                detached = [event for event in peer.events if isinstance(event, LinkDetached)]
                ended = [event for event in peer.events if isinstance(event, SessionEnded)]
                return len(detached) == 2 and len(ended) == 1

            await scene.until(refused)
            assert {
                str(event.error.condition) for event in peer.events if isinstance(event, LinkDetached) and event.error
            } == {"amqp:not-allowed"}
            assert connection.open


async def test_an_exception_leaves_the_blocks_as_it_is_and_the_connection_is_closed(site: RunningSite) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with (
            connect(site.url()) as connection,
            connection.sender("nobody") as sender,
            connection.receiver("orders"),
        ):
            sender.send_nowait(Message())
            raise error
    assert caught.value is error
    assert not connection.open
    with pytest.raises(trio.ClosedResourceError):
        await sender.send("x")
    with pytest.raises(trio.ClosedResourceError):
        async with connection.sender("orders"):
            raise AssertionError
    assert await connection.wait_closed() is None


async def test_being_cancelled_closes_in_order(site: RunningSite) -> None:
    with trio.CancelScope() as scope:
        async with connect(site.url()) as connection, connection.receiver("orders") as receiver:
            scope.cancel()
            await receiver.receive()
    assert scope.cancelled_caught
    assert not connection.open
    await until(lambda: "connection closed" in site.log)
    assert '"by": "peer"' in site.log
    assert '"reason": "closed"' in site.log
