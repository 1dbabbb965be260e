"""Requests find their replies, whatever the responder copies, and say in which step they failed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from tests.client.peers import Scene, staged
from tests.client.sites import RunningSite
from van.amqp.delivery import Delivery as EngineDelivery
from van.amqp.errors import AmqpLinkError, ErrorCondition
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.client import (
    AmqpValue,
    ConnectionClosedError,
    Delivery,
    LinkDetachedError,
    Message,
    NotAcceptedError,
    Properties,
    TimedOutError,
    body_of,
    connect,
)

Reply = Callable[[Properties], Properties]


def with_correlation_id(request: Properties) -> Properties:
    return Properties(to=request.reply_to, correlation_id=request.correlation_id)


def with_message_id(request: Properties) -> Properties:
    return Properties(to=request.reply_to, correlation_id=request.message_id)


def with_nothing(request: Properties) -> Properties:
    return Properties(to=request.reply_to)


@asynccontextmanager
async def responder(url: str, properties_for: Reply = with_correlation_id) -> AsyncIterator[None]:
    """Answers at the address `upper`; `silence` is not answered, `no` is rejected."""

    async def answer(delivery: Delivery) -> None:
        request = delivery.message
        assert request.properties is not None
        if delivery.body == "no":
            delivery.reject("shop:closed", "come again")
            return
        delivery.accept()
        if delivery.body != "silence":
            reply = Message(properties=properties_for(request.properties), body=AmqpValue(str(delivery.body).upper()))
            await sender.send(reply)

    async with connect(url) as connection:
        async with connection.receiver("upper") as receiver, connection.sender(None) as sender:
            async with trio.open_nursery() as nursery:

                async def serve() -> None:
                    async for delivery in receiver:
                        nursery.start_soon(answer, delivery)

                nursery.start_soon(serve)
                yield
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize("properties_for", [with_correlation_id, with_message_id, with_nothing])
async def test_a_reply_finds_its_request(site: RunningSite, properties_for: Reply) -> None:
    async with responder(site.url(), properties_for), connect(site.url()) as connection:
        reply = await connection.request("upper", "coffee")
        assert body_of(reply) == "COFFEE"


async def test_many_requests_at_a_time(site: RunningSite) -> None:
    async with responder(site.url()), connect(site.url()) as connection:
        async with connection.requester("upper") as requester, trio.open_nursery() as nursery:
            assert requester.reply_to

            async def ask(text: str) -> None:
                assert body_of(await requester.request(text)) == text.upper()

            for number in range(30):
                nursery.start_soon(ask, f"number {number}")


async def test_ids_of_the_callers_own_are_kept_and_the_message_is_not_changed(site: RunningSite) -> None:
    mine = Message(properties=Properties(message_id=7, correlation_id="c", subject="s"), body=AmqpValue("x"))
    async with responder(site.url(), with_message_id), connect(site.url()) as connection:
        reply = await connection.request("upper", mine)
        assert reply.properties is not None
        assert reply.properties.correlation_id == 7
        assert mine.properties == Properties(message_id=7, correlation_id="c", subject="s")


async def test_two_requests_with_one_id_are_a_mistake(site: RunningSite) -> None:
    message = Message(properties=Properties(message_id="m"), body=AmqpValue("silence"))
    async with responder(site.url()), connect(site.url()) as connection, connection.requester("upper") as requester:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(requester.request, message)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ValueError, match="under way"):
                await requester.request(message)
            nursery.cancel_scope.cancel()


async def test_nobody_takes_the_request(site: RunningSite) -> None:
    async with connect(site.url()) as connection:
        with pytest.raises(TimedOutError, match=r"nobody took the request within 0\.05 s"):
            await connection.request("upper", "x", timeout=0.05)


async def test_nobody_answers(site: RunningSite) -> None:
    async with responder(site.url()), connect(site.url()) as connection:
        with pytest.raises(trio.TooSlowError, match=r"accepted, but not answered within 0\.2 s"):
            await connection.request("upper", "silence", timeout=0.2)


async def test_a_request_that_is_rejected(site: RunningSite) -> None:
    async with responder(site.url()), connect(site.url()) as connection:
        with pytest.raises(NotAcceptedError, match="rejected: shop:closed: come again"):
            await connection.request("upper", "no")


async def test_replies_that_nobody_waits_for_are_taken_and_forgotten(site: RunningSite) -> None:
    async with responder(site.url()), connect(site.url()) as connection:
        async with connection.requester("upper") as requester, connection.sender(requester.reply_to) as sender:
            assert (await sender.send(Message(properties=Properties(correlation_id="late")))).accepted
            assert (await sender.send("without properties")).accepted

            class Nonsense(Message):
                def encode(self) -> bytes:
                    return b"\x00\x53\x77\xff"

            assert (await sender.send(Nonsense())).condition == "amqp:decode-error"
            assert body_of(await requester.request("still works")) == "STILL WORKS"


async def test_the_end_of_the_connection_ends_requests() -> None:
    def close(link: ReceiverLink, delivery: EngineDelivery) -> None:
        link.settle(delivery, None)
        link.session.connection.close()

    async with staged(Scene(answer=close)) as scene, connect(scene.url) as connection:
        with pytest.raises(ConnectionClosedError):
            await connection.request("upper", "x")


async def test_the_end_of_the_reply_link_ends_requests() -> None:
    def detach_replies(link: ReceiverLink, delivery: EngineDelivery) -> None:
        link.settle(delivery, None)
        replies = next(link for link in scene.peer.links if isinstance(link, SenderLink))
        replies.detach(AmqpLinkError(ErrorCondition.RESOURCE_DELETED, "address gone"))

    async with staged(Scene(answer=detach_replies)) as scene, connect(scene.url) as connection:
        async with connection.requester("upper") as requester:
            assert requester.reply_to == "made/up"
            with pytest.raises(LinkDetachedError, match="address gone"):
                await requester.request("x")
