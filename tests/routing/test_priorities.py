"""Priorities 0 to 9: of the message's header (3.2.1), or of the address where one is configured."""

from __future__ import annotations

import pytest

from tests.routing.network import Network
from van.amqp.message import AmqpValue, Header, Message
from van.amqp.types import UByte


def message(text: str, priority: int | None = None, durable: bool | None = None) -> bytes:
    header = Header(priority=UByte(priority) if priority is not None else None, durable=durable)
    return Message(header=header, body=AmqpValue(text)).encode()


def texts(bodies: list[bytes]) -> list[object]:
    found = []
    for body in bodies:
        decoded = Message.decode(body).body
        assert isinstance(decoded, AmqpValue)
        found.append(decoded.value)
    return found


def test_what_waits_goes_in_the_order_of_priority() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q")
    for number, priority in enumerate([4, None, 9, 0, 4, 7, 9, None]):
        sender.send(message(f"{priority}-{number}", priority))
    network.run()
    receiver.credit(10)
    network.run()
    assert texts(receiver.bodies) == ["9-2", "9-6", "7-5", "4-0", "None-1", "4-4", "None-7", "0-3"]
    network.assert_quiet()


def test_all_ten() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q")
    for priority in range(10):
        sender.send(message(f"{priority}", priority, durable=True))
    network.run()
    receiver.credit(10)
    network.run()
    assert texts(receiver.bodies) == [f"{priority}" for priority in reversed(range(10))]
    # Later ones take their turn again.
    sender.send(message("a"))
    sender.send(message("b"))
    receiver.credit(10)
    network.run()
    assert texts(receiver.bodies)[10:] == ["a", "b"]


def test_above_nine_is_nine() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q")
    for number, priority in enumerate([9, 200, 8]):
        sender.send(message(f"{number}", priority))
    network.run()
    receiver.credit(10)
    network.run()
    assert texts(receiver.bodies) == ["0", "1", "2"]


def test_a_header_written_at_length() -> None:
    """list32 in place of list8, as some clients write it."""
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q")
    low = message("low")
    fields = b"\x42\x50\x08"  # durable false, priority 8
    high = b"\x00\x53\x70\xd0" + (4 + len(fields)).to_bytes(4, "big") + (2).to_bytes(4, "big") + fields
    sender.send(low)
    sender.send(high + message("high"))
    network.run()
    receiver.credit(10)
    network.run()
    assert receiver.bodies[0].startswith(high)
    assert receiver.bodies[1] == low


@pytest.mark.parametrize(
    "garbage", [b"\x00\x53\x70\xc0\x02\x02\xff", b"\x00\x53\x70\xd0\x00\x00\x00\x09", b"\x00\x53\x70"]
)
def test_garbage_has_the_default(garbage: bytes) -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q")
    sender.send(message("first"))
    sender.send(garbage)
    sender.send(message("high", 9))
    network.run()
    receiver.credit(10)
    network.run()
    assert receiver.bodies == [message("high", 9), message("first"), garbage]


def test_the_address_beats_the_message() -> None:
    network = Network(addresses={"urgent": "balanced", "idle": "balanced"}, priorities={"urgent": 9, "idle": 0})
    client = network.client()
    sender = client.sender("urgent")
    receiver = network.client().receiver("urgent")
    for priority in (1, 9, 5):
        sender.send(message(f"{priority}", priority))
    network.run()
    receiver.credit(10)
    network.run()
    assert texts(receiver.bodies) == ["1", "9", "5"]


def test_links_of_one_connection_go_by_the_priority_of_their_address() -> None:
    network = Network(addresses={"urgent": "balanced", "idle": "balanced"}, priorities={"urgent": 9, "idle": 0})
    client = network.client()
    idle, urgent = client.receiver("idle"), client.receiver("urgent")
    senders = {name: network.client().sender(name) for name in ("idle", "urgent")}
    for sender in senders.values():
        for _ in range(100):
            sender.send(b"x" * 10_000)
    network.run()
    client.reading = False
    idle.credit(100)
    urgent.credit(100)
    network.run()
    client.reading = True
    client.step(1)
    assert len(urgent.deliveries) > 0
    assert len(idle.deliveries) == 0
    network.run()
    assert len(idle.deliveries) == len(urgent.deliveries) == 100


def test_a_message_of_several_frames() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q")
    sender.send(message("x" * 50_000, 4))
    sender.send(message("y" * 50_000, 9))
    sender.send(message("z" * 50_000))
    network.run()
    receiver.credit(10)
    network.run()
    assert [str(text)[0] for text in texts(receiver.bodies)] == ["y", "x", "z"]
    network.assert_quiet()
