"""How long encoding and decoding take: Open, Attach and a typical message, next to python-qpid-proton if it is there.

`python benchmarks/codec.py` prints medians in microseconds. Both sides are timed in turns in one run, so that a busy
machine is unkind to both; what counts is the ratio. Proton's codec is in C; to decode, its Python side copies every
section into attributes, and the values of all sections are read, as they are on ours. Transfer, Flow and Disposition
have coders of their own; the table-driven ones, which read what is rare, are shown beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

from measure import Figures, table

from van.amqp.delivery_state import ACCEPTED
from van.amqp.hot import (
    decode_disposition,
    decode_flow,
    decode_transfer,
    encode_disposition,
    encode_flow,
    encode_transfer,
)
from van.amqp.message import Data, Message, Properties, read_to
from van.amqp.performatives import ROLE_RECEIVER, Attach, Disposition, Flow, Open, Transfer, decode_performative
from van.amqp.terminus import Source, Target
from van.amqp.types import Int

RUNS = 5
# Of these, encoding may take this part of Proton's time and decoding that.
ENCODE_GOAL = 0.7
DECODE_GOAL = 0.9
# What of ours stands beside what of Proton's.
COMPARED = (
    ("message encode", "message encode"),
    ("message decode", "message decode"),
    ("message decode", "message decode, read"),
)

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
TAG = b"\0\0\x03\xe8"
TRANSFER = Transfer(handle=1, delivery_id=1000, delivery_tag=TAG, message_format=0, settled=False)
DISPOSITION = Disposition(role=ROLE_RECEIVER, first=1000, last=1100, settled=True, state=ACCEPTED)
FLOW = Flow(
    next_incoming_id=1100,
    incoming_window=512,
    next_outgoing_id=0,
    outgoing_window=2048,
    handle=1,
    delivery_count=1100,
    link_credit=250,
)
# Behind `00 53` and the code, where the specialised decoders begin; a frame's header comes in front.
BEHIND_DESCRIPTOR = 3
BODY_OF_FRAME = 8


def decoder(encoded: bytes) -> Callable[[], object]:
    """Return what decodes a performative."""
    return lambda: decode_performative(encoded, 0, len(encoded))


def hot() -> dict[str, Callable[[], object]]:
    """Return the specialised coders, each checked once against the table-driven ones."""
    transfer, disposition, flow = TRANSFER.encode(), DISPOSITION.encode(), FLOW.encode()
    accepted = ACCEPTED.encode()
    encoders = {
        "transfer": (transfer, partial(encode_transfer, 0, 1, 1000, TAG, 0, False, False, False, 0)),
        "disposition": (disposition, partial(encode_disposition, 0, ROLE_RECEIVER, 1000, 1100, True, accepted)),
        "flow": (flow, partial(encode_flow, 0, 1100, 512, 0, 2048, 1, 1100, 250)),
    }
    decoders = {"transfer": decode_transfer, "disposition": decode_disposition, "flow": decode_flow}
    timed: dict[str, Callable[[], object]] = {}
    for name, (octets, encode) in encoders.items():
        frame = encode()
        again, _ = decode_performative(frame, BODY_OF_FRAME, len(frame))
        assert again == decode_performative(octets, 0, len(octets))[0]
        timed[f"{name} encode"] = encode
        timed[f"{name} decode"] = partial(decoders[name], octets, BEHIND_DESCRIPTOR, len(octets))
    return timed


def ours() -> dict[str, Callable[[], object]]:
    """Return what is timed of ours, by name."""
    payload = MESSAGE.encode()
    assert Message.decode(payload) == MESSAGE
    return hot() | {
        "open encode": OPEN.encode,
        "open decode": decoder(OPEN.encode()),
        "attach encode": ATTACH.encode,
        "attach decode": decoder(ATTACH.encode()),
        "transfer encode (table)": TRANSFER.encode,
        "transfer decode (table)": decoder(TRANSFER.encode()),
        "disposition encode (table)": DISPOSITION.encode,
        "disposition decode (table)": decoder(DISPOSITION.encode()),
        "flow encode (table)": FLOW.encode,
        "flow decode (table)": decoder(FLOW.encode()),
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


def run(runs: int = RUNS, seconds: float = 0.1) -> dict[str, Figures]:
    """Time both sides in turns; returns medians, and ratios where Proton does the same."""
    sides = {"van": ours(), "proton": protons()}
    figures: dict[tuple[str, str], list[float]] = {}
    for _ in range(runs):
        for side, functions in sides.items():
            for name, function in functions.items():
                figures.setdefault((side, name), []).append(microseconds(function, seconds))
    rows: dict[str, Figures] = {}
    for (side, name), values in figures.items():
        rows.setdefault(name, {})[f"{side} µs"] = median(values)
    for name, theirs in COMPARED:
        if theirs in sides["proton"]:
            rows[theirs]["van µs"] = mine = median(figures["van", name])
            rows[theirs]["ratio"] = mine / median(figures["proton", theirs])
    return rows


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="medians of so many")
    parser.add_argument("--seconds", type=float, default=0.1, help="for each figure of each run")
    parser.add_argument("--check", action="store_true", help="exit with 1 where the goal is missed; needs Proton")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    options = parser.parse_args()
    rows = run(options.runs, options.seconds)
    print(json.dumps(rows) if options.json else table("codec", rows))
    ratios = {name: row["ratio"] for name, row in rows.items() if row.get("ratio") is not None}
    if not ratios:
        print("python-qpid-proton is not installed: no ratio", file=sys.stderr)
        return 1 if options.check else 0
    missed = False
    for name, ratio in ratios.items():
        goal = ENCODE_GOAL if name == "message encode" else DECODE_GOAL
        if ratio is not None and ratio > goal:
            missed = True
            print(f"{name}: {ratio:.2f} times Proton's time, where {goal} is the goal", file=sys.stderr)
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
