"""The client with a peer that is not of our making: the broker among Qpid Proton's examples."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.interop.harness import PATIENCE, PROTON_EXAMPLES, SYSTEM_PYTHON, Program, find_proton, missing
from tests.ports import free_port
from van.client import AmqpValue, Message, Properties, UnreachableError, body_of, connect

pytestmark = pytest.mark.interop


@pytest.fixture
async def broker() -> AsyncIterator[str]:
    """The URL of a broker that runs."""
    find_proton()
    program = PROTON_EXAMPLES / "broker.py"
    if not program.exists():
        missing(f"{program} is not there (Debian's libqpid-proton11-dev-examples)")
    port = free_port()
    running = Program([SYSTEM_PYTHON, str(program), "-a", f"127.0.0.1:{port}"])
    url = f"amqp://127.0.0.1:{port}"
    try:
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    async with connect(url):
                        break
                except UnreachableError:
                    await trio.sleep(0.05)
            yield url
    finally:
        running.kill()


async def test_messages_by_way_of_a_broker(broker: str) -> None:
    async with connect(broker) as connection:
        assert connection.transport == "tcp"
        async with connection.sender("queue") as sender:
            trackers = [await sender.submit(Message(body=AmqpValue(number))) for number in range(500)]
            assert all([(await tracker.wait()).accepted for tracker in trackers])
        async with connection.receiver("queue", credit=20) as receiver:
            for number in range(500):
                delivery = await receiver.receive()
                assert delivery.body == number
                delivery.accept()


async def test_large_messages_by_way_of_a_broker(broker: str) -> None:
    content = bytes(range(256)) * 8000
    async with connect(broker) as connection:
        async with connection.sender("large") as sender, connection.receiver("large") as receiver:
            tracker = sender.send_nowait(content)
            delivery = await receiver.receive()
            assert delivery.body == content
            delivery.accept()
            assert (await tracker.wait()).accepted


async def test_settled_messages_by_way_of_a_broker(broker: str) -> None:
    async with connect(broker) as connection, connection.sender("queue", settled=True) as sender:
        for text in ("a", "b"):
            await sender.send(text)
        async with connection.receiver("queue", settled=True) as receiver:
            assert [(await receiver.receive()).body for _ in range(2)] == ["a", "b"]


async def test_requests_by_way_of_a_broker(broker: str) -> None:
    async with connect(broker) as server, connect(broker) as client, trio.open_nursery() as nursery:

        async def respond() -> None:
            async with server.receiver("upper") as receiver:
                async for delivery in receiver:
                    asked = delivery.message.properties
                    assert asked is not None
                    async with server.sender(asked.reply_to) as sender:
                        reply = Properties(correlation_id=asked.correlation_id)
                        await sender.send(Message(properties=reply, body=AmqpValue(str(delivery.body).upper())))
                    delivery.accept()

        nursery.start_soon(respond)
        assert body_of(await client.request("upper", "coffee")) == "COFFEE"
        nursery.cancel_scope.cancel()
