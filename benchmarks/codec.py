"""How long encoding and decoding take: Open, Attach and a typical message, next to python-qpid-proton if it is there.

`python benchmarks/codec.py` prints medians in microseconds. Both sides are timed in turns in one run, so that a busy
machine is unkind to both; what counts is the ratio. Proton's codec is in C; to decode, its Python side copies every
section into attributes, and the values of all sections are read, as they are on ours. Transfer, Flow and Disposition
have coders of their own; their table-driven ones are shown here for comparison only.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from van.amqp.message import Data, Message, Properties, read_to
from van.amqp.performatives import ROLE_RECEIVER, Attach, Open, Transfer, decode_performative
from van.amqp.terminus import Source, Target
from van.amqp.types import Int

RUNS = 5
# Of these, encoding may take this part of Proton's time and decoding that.
ENCODE_GOAL = 0.7
DECODE_GOAL = 0.9

BODY = bytes(range(100))

MESSAGE = Message(
    properties=Properties(
        message_id="msg-000001",
        to="orders/new",
        subject="order",
        reply_to="replies/7",
        correlation_id="corr-42",
        content_type="application/octet-stream",
    ),
    application_properties={"colour": "green", "weight": Int(1234), "region": "eu-north-1"},
    body=Data(BODY),
)
OPEN = Open(
    container_id="b99512e6-380c-441a-8af8-596da18101c1",
    hostname="router.example.com",
    max_frame_size=16384,
    channel_max=32767,
    idle_time_out=8000,
    offered_capabilities=["ANONYMOUS-RELAY", "qd.streaming-links"],
    properties={"product": "van", "version": "0.1.0"},
)
ATTACH = Attach(
    name="b99512e6-orders/new",
    handle=1,
    role=ROLE_RECEIVER,
    snd_settle_mode=0,
    source=Source(address="orders/new", outcomes=["amqp:accepted:list", "amqp:rejected:list"]),
    target=Target(),
    initial_delivery_count=0,
    max_message_size=1 << 20,
)
TRANSFER = Transfer(handle=1, delivery_id=1000, delivery_tag=b"\0\0\x03\xe8", message_format=0)


def decoder(encoded: bytes) -> Callable[[], object]:
    """Return what decodes a performative."""
    return lambda: decode_performative(encoded, 0, len(encoded))


def ours() -> dict[str, Callable[[], object]]:
    """Return what is timed of ours, by name."""
    payload = MESSAGE.encode()
    assert Message.decode(payload) == MESSAGE
    return {
        "open encode": OPEN.encode,
        "open decode": decoder(OPEN.encode()),
        "attach encode": ATTACH.encode,
        "attach decode": decoder(ATTACH.encode()),
        "transfer encode (table)": TRANSFER.encode,
        "transfer decode (table)": decoder(TRANSFER.encode()),
        "message read_to": lambda: read_to(payload),
        "message encode": MESSAGE.encode,
        "message decode": lambda: Message.decode(payload),
    }


def protons() -> dict[str, Callable[[], object]]:
    """Return the same of python-qpid-proton, as far as it has it; nothing where it is not installed."""
    try:
        import proton
    except ImportError:
        return {}
    message = proton.Message()
    message.id = "msg-000001"
    message.address = "orders/new"
    message.subject = "order"
    message.reply_to = "replies/7"
    message.correlation_id = "corr-42"
    message.content_type = proton.symbol("application/octet-stream")
    message.properties = {"colour": "green", "weight": proton.int32(1234), "region": "eu-north-1"}
    message.inferred = True
    message.body = BODY
    payload = bytes(message.encode())
    # Both write the same message.
    decoded = Message.decode(payload)
    assert (decoded.properties, decoded.application_properties, decoded.body) == (
        MESSAGE.properties,
        MESSAGE.application_properties,
        MESSAGE.body,
    )
    received = proton.Message()

    def decode() -> None:
        received.decode(payload)

    def decode_and_read() -> tuple[object, ...]:
        received.decode(payload)
        return (
            received.id,
            received.address,
            received.subject,
            received.reply_to,
            received.correlation_id,
            received.content_type,
            received.properties,
            received.body,
        )

    return {"message encode": message.encode, "message decode": decode, "message decode, read": decode_and_read}


def microseconds(function: Callable[[], object], seconds: float) -> float:
    """Return how long one call takes, from as many as fit in about that time."""
    calls = 1
    while True:
        begin = time.perf_counter()
        for _ in range(calls):
            function()
        took = time.perf_counter() - begin
        if took >= seconds:
            return took / calls * 1e6
        calls = max(2 * calls, int(calls * seconds / max(took, 1e-6) * 1.1))


def main() -> int:
    parser = argparse.ArgumentParser(description="time the codec")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seconds", type=float, default=0.1, help="for each figure of each run")
    parser.add_argument("--check", action="store_true", help="exit with 1 where the goal is missed; needs Proton")
    options = parser.parse_args()
    sides = {"van": ours(), "proton": protons()}
    figures: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.runs):
        for side, functions in sides.items():
            for name, function in functions.items():
                figures.setdefault((side, name), []).append(microseconds(function, options.seconds))
    medians = {key: median(values) for key, values in figures.items()}
    for name in sides["van"]:
        print(f"van     {name:25} {medians['van', name]:8.2f} us")
    for name in sides["proton"]:
        print(f"proton  {name:25} {medians['proton', name]:8.2f} us")
    if not sides["proton"]:
        print("python-qpid-proton is not installed: no ratio")
        return 1 if options.check else 0
    missed = False
    for name, theirs, goal in (
        ("message encode", "message encode", ENCODE_GOAL),
        ("message decode", "message decode", DECODE_GOAL),
        ("message decode", "message decode, read", DECODE_GOAL),
    ):
        ratio = medians["van", name] / medians["proton", theirs]
        missed = missed or ratio > goal
        print(f"ratio   {theirs:25} {ratio:8.2f}    (goal: at most {goal})")
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
