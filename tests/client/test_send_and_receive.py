"""Messages by way of a real router: what is sent arrives, and what the receiver says of it comes back."""

from __future__ import annotations

import pytest
import trio

from tests.client.sites import RunningSite
from van.client import (
    AmqpSequence,
    AmqpValue,
    ClientError,
    Data,
    EncodeError,
    Header,
    MalformedMessageError,
    Message,
    NotAcceptedError,
    Outcome,
    OutcomeState,
    Properties,
    body_of,
    connect,
)


async def test_a_message_arrives_and_its_outcome_comes_back(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        connection.sender("orders") as sender,
    ):
        tracker = sender.send_nowait("one coffee")
        delivery = await receiver.receive()
        assert (delivery.body, delivery.settled, len(delivery.delivery_tag)) == ("one coffee", False, 4)
        delivery.accept()
        assert (await tracker.wait()).accepted
        assert tracker.outcome_now == Outcome(OutcomeState.ACCEPTED)
        assert delivery.settled
        assert repr(delivery) == f"<Delivery of {len(delivery.payload)} octets, accepted>"


async def test_every_outcome_comes_back_with_what_it_carries(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        connection.sender("orders") as sender,
    ):

        async def serve() -> None:
            (await receiver.receive()).reject("shop:sold-out", "no coffee left")
            (await receiver.receive()).reject()
            (await receiver.receive()).release()
            (await receiver.receive()).modify(undeliverable_here=True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            rejected = await sender.send("a")
            assert rejected == Outcome(OutcomeState.REJECTED, "shop:sold-out", "no coffee left")
            with pytest.raises(NotAcceptedError, match=r"^rejected: shop:sold-out: no coffee left$") as caught:
                rejected.check()
            assert caught.value.condition == "shop:sold-out"
            assert caught.value.outcome is rejected
            assert (await sender.send("b")).state is OutcomeState.REJECTED
            released = await sender.send("c")
            assert (released.state, released.accepted, str(released)) == (OutcomeState.RELEASED, False, "released")
            modified = await sender.send("d")
            assert modified.state is OutcomeState.MODIFIED
            assert modified.undeliverable_here
            assert "undeliverable-here" in str(modified)


async def test_every_section_arrives_as_it_was_sent(site: RunningSite) -> None:
    message = Message(
        header=Header(durable=True, ttl=60_000),
        message_annotations={"x-opt-colour": "green"},
        properties=Properties(message_id="m1", subject="order", reply_to="replies", content_type="text/plain"),
        application_properties={"weight": 12, "fresh": True},
        body=[Data(b"one "), Data(b"coffee")],
        footer={"sum": 7},
    )
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        connection.sender("orders", settled=True) as sender,
    ):
        await sender.send(message)
        delivery = await receiver.receive()
        assert delivery.message == message
        assert delivery.body == b"one coffee"


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (Message(body=AmqpValue({"a": [1, None]})), {"a": [1, None]}),
        (Message(body=AmqpSequence([1, 2])), [1, 2]),
        (Message(body=[AmqpSequence([1]), AmqpSequence([2])]), [1, 2]),
        (Message(body=Data(b"x")), b"x"),
        (Message(), None),
    ],
)
def test_the_body_as_a_python_value(message: Message, body: object) -> None:
    assert body_of(message) == body


async def test_a_settled_sender_hears_nothing_and_waits_for_nothing(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        connection.sender("orders", settled=True) as sender,
    ):
        outcome = await sender.send(b"octets")
        assert (outcome.state, outcome.accepted) == (OutcomeState.SETTLED, False)
        outcome.check()
        delivery = await receiver.receive()
        assert (delivery.body, delivery.settled) == (b"octets", True)
        assert repr(delivery).endswith("settled>")
        delivery.accept()
        delivery.release()


async def test_a_receiver_may_ask_for_settled_deliveries(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders", settled=True) as receiver,
        connection.sender("orders") as sender,
    ):
        assert (await sender.send("x")).accepted
        assert (await receiver.receive()).settled


async def test_many_messages_at_a_time_arrive_once_each_and_in_order(site: RunningSite) -> None:
    count = 3000
    received: list[object] = []
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        connection.sender("orders", max_pending=700) as sender,
        trio.open_nursery() as nursery,
    ):

        async def take() -> None:
            async for delivery in receiver:
                received.append(delivery.body)
                delivery.accept()
                if len(received) == count:
                    return

        nursery.start_soon(take)
        trackers = [await sender.submit(Message(body=AmqpValue(number))) for number in range(count)]
        assert {(await tracker.wait()).state for tracker in trackers} == {OutcomeState.ACCEPTED}
    assert received == list(range(count))


async def test_messages_from_many_tasks(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        connection.sender("orders") as sender,
        trio.open_nursery() as nursery,
    ):

        async def take() -> None:
            for _ in range(50):
                (await receiver.receive()).accept()

        async def send(text: str) -> None:
            assert (await sender.send(text)).accepted

        nursery.start_soon(take)
        for number in range(50):
            nursery.start_soon(send, str(number))


@pytest.mark.parametrize("size", [60_000, 66_000, 3_000_001])
async def test_large_messages_both_ways(site: RunningSite, size: int) -> None:
    content = bytes(range(256)) * (size // 256)
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        connection.sender("orders") as sender,
    ):
        tracker = sender.send_nowait(content)
        delivery = await receiver.receive()
        assert delivery.body == content
        delivery.accept()
        assert (await tracker.wait()).accepted


async def test_everybody_gets_the_news(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("news") as first,
        connection.receiver("news") as second,
        connection.sender("news") as sender,
    ):
        tracker = sender.send_nowait("extra")
        for receiver in (first, second):
            delivery = await receiver.receive()
            assert delivery.body == "extra"
            delivery.accept()
        assert (await tracker.wait()).accepted


async def test_an_anonymous_sender_goes_where_each_message_says(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("here") as here,
        connection.receiver("there") as there,
        connection.sender(None) as sender,
    ):
        for address, receiver in (("here", here), ("there", there)):
            tracker = sender.send_nowait(Message(properties=Properties(to=address), body=AmqpValue(address)))
            delivery = await receiver.receive()
            assert delivery.body == address
            delivery.accept()
            assert (await tracker.wait()).accepted
        assert (await sender.send("nowhere")).state is OutcomeState.REJECTED


async def test_a_dynamic_receiver_learns_its_address(site: RunningSite) -> None:
    async with connect(site.url()) as connection, connection.receiver(None, dynamic=True) as receiver:
        assert receiver.address
        async with connection.sender(receiver.address) as sender:
            tracker = sender.send_nowait("to you")
            delivery = await receiver.receive()
            delivery.accept()
            assert delivery.body == "to you"
            assert (await tracker.wait()).accepted


async def test_a_delivery_is_settled_once(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        connection.sender("orders") as sender,
    ):
        tracker = sender.send_nowait("x")
        delivery = await receiver.receive()
        delivery.accept()
        with pytest.raises(RuntimeError, match="settled already: accepted"):
            delivery.release()
        assert (await tracker.wait()).accepted


async def test_octets_that_are_no_message_can_still_be_rejected(site: RunningSite) -> None:
    class Nonsense(Message):
        def encode(self) -> bytes:
            return b"\x00\x53\x77\xff\xff"

    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        connection.sender("orders") as sender,
    ):
        tracker = sender.send_nowait(Nonsense())
        delivery = await receiver.receive()
        with pytest.raises(MalformedMessageError, match="amqp:decode-error"):
            delivery.message  # noqa: B018 - decoded when it is looked at
        delivery.reject("amqp:decode-error", "what is that?")
        assert (await tracker.wait()).condition == "amqp:decode-error"


async def test_what_cannot_be_encoded_is_not_sent(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("orders") as receiver,
        connection.sender("orders") as sender,
    ):
        with pytest.raises(EncodeError):
            await sender.send(Message(body=AmqpValue(object())))
        assert sender.pending == 0
        assert receiver.queued == 0


async def test_arguments_that_make_no_sense(site: RunningSite) -> None:
    async with connect(site.url()) as connection:
        with pytest.raises(ValueError, match="dynamic"):
            async with connection.receiver("a", dynamic=True):
                raise AssertionError
        with pytest.raises(ValueError, match="dynamic"):
            async with connection.receiver(None):
                raise AssertionError
        with pytest.raises(ValueError, match="credit"):
            async with connection.receiver("a", credit=-1):
                raise AssertionError
        with pytest.raises(ValueError, match="max_pending"):
            async with connection.sender("a", max_pending=0):
                raise AssertionError


def test_errors_are_words_even_without_any() -> None:
    assert str(ClientError("")) == "ClientError"
    assert str(ClientError("a:b", "c")) == "a:b: c"
