"""Send ourselves a message that has every section and many types, and compare what comes."""

import uuid

from options import OPTIONS, connect, say
from proton import Described, Message, byte, char, float32, int32, short, symbol, timestamp, ubyte, uint, ulong, ushort
from proton.handlers import MessagingHandler
from proton.reactor import Container

TYPES = {
    "null": None,
    "boolean": True,
    "numbers": [ubyte(1), ushort(2), uint(3), ulong(4), byte(-1), short(-2), int32(-3), -4, float32(0.5), 0.25],
    "char": char("ж"),
    "timestamp": timestamp(1_600_000_000_000),
    "uuid": uuid.UUID(int=7),
    "binary": b"\x00\xff",
    "string": "žluťoučký kůň",
    "symbol": symbol("a-symbol"),
    "list": [[], [1, ["two"]]],
    "map": {"nested": {"deeper": 1}},
    "described": Described(symbol("test:described"), [1, 2]),
}


def make():
    message = Message(
        id="msg-000001", user_id=b"somebody", subject="order", reply_to="replies/7", correlation_id=uuid.UUID(int=9),
        content_type=symbol("text/plain"), content_encoding=symbol("identity"), group_id="group", group_sequence=4,
        reply_to_group_id="others", expiry_time=2_000_000_000.0, creation_time=1_600_000_000.0, durable=True,
        priority=7, ttl=3600.0, body=TYPES,
    )  # fmt: skip
    message.address = "somewhere/else"
    message.properties = {"colour": "green", "weight": 1234, "exact": uint(7)}
    message.annotations = {symbol("x-opt-test"): TYPES}
    return message


class Sections(MessagingHandler):
    def on_start(self, event):
        connection = connect(event.container)
        event.container.create_receiver(connection, OPTIONS["address"])
        event.container.create_sender(connection, OPTIONS["address"])

    def on_sendable(self, event):
        event.sender.send(make())
        event.sender.close()

    def on_message(self, event):
        sent, came = make(), event.message
        names = [name for name in dir(Message) if isinstance(getattr(Message, name), property)]
        different = [name for name in names if getattr(sent, name) != getattr(came, name)]
        for name in [*different, "properties", "annotations", "body"]:
            if getattr(sent, name) != getattr(came, name):
                say(name, getattr(sent, name), "came as", getattr(came, name))
        say("different" if different else "the same")
        event.connection.close()


Container(Sections()).run()
