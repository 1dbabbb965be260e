"""Frames that real routers and tools sent are read, and what we write for them means the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from van.amqp.codec import decode_value
from van.amqp.message import Message, locate_section, locate_sections, read_to
from van.amqp.performatives import Attach, Open, Transfer, decode_performative
from van.amqp.sasl_frames import decode_sasl_frame
from van.amqp.types import Symbol

RECORDED = sorted((Path(__file__).parent / "data" / "recorded").glob("*.bin"))

ROUTER_ANNOTATIONS = 0x534B50522D2D5241  # "SKPR--RA"


def frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Cut a recorded stream into (frame type, body)."""
    raw = path.read_bytes()
    pos = 0
    while pos < len(raw):
        if raw[pos : pos + 4] == b"AMQP":
            pos += 8
            continue
        size = int.from_bytes(raw[pos : pos + 4], "big")
        if size > 8:
            yield raw[pos + 5], raw[pos + 4 * raw[pos + 4] : pos + size]
        pos += size


def payloads(path: Path) -> Iterator[bytes]:
    """Put the frames of each delivery together; deliveries of one link do not mix (2.6.12)."""
    begun: dict[int, bytes] = {}
    for kind, body in frames(path):
        performative, pos = (decode_sasl_frame if kind else decode_performative)(body, 0, len(body))
        if isinstance(performative, Transfer):
            payload = begun.pop(performative.handle, b"") + body[pos:]
            if performative.more:
                begun[performative.handle] = payload
            else:
                yield payload


def test_there_are_recordings() -> None:
    assert len(RECORDED) == 6


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_recorded_performative_is_read_and_written_again(path: Path) -> None:
    seen = 0
    for kind, body in frames(path):
        decoder = decode_sasl_frame if kind else decode_performative
        performative, end = decoder(body, 0, len(body))
        encoded = performative.encode()
        assert decoder(encoded, 0, len(encoded)) == (performative, len(encoded))
        assert len(encoded) <= end
        seen += 1
    assert seen


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_recorded_message_is_read_and_written_again(path: Path) -> None:
    for payload in payloads(path):
        if path.name.startswith("cap-x"):
            # What follows the empty body are the octets of the flow, in no section.
            code, value, end = locate_section(payload, 0)
            assert code == ROUTER_ANNOTATIONS
            assert isinstance(decode_value(payload, value, end)[0], list)
            assert isinstance(read_to(payload), str | None)
            continue
        sections = locate_sections(payload)
        assert sections[-1][3] == len(payload)
        start = sections[1][1] if sections[0][0] == ROUTER_ANNOTATIONS else 0
        message = Message.decode(payload[start:])
        assert Message.decode(message.encode()) == message


def test_the_open_of_a_recorded_router_says_what_it_said() -> None:
    (path,) = [path for path in RECORDED if path.name == "cap-m.0.s2c.bin"]
    performatives = [decode_performative(body, 0, len(body))[0] for kind, body in frames(path) if not kind]
    opened = performatives[0]
    assert isinstance(opened, Open)
    assert opened.max_frame_size == 16384
    assert opened.offered_capabilities == ["ANONYMOUS-RELAY", "qd.streaming-links", "qd.connection_trunking"]
    assert opened.properties is not None
    assert opened.properties[Symbol("product")] == "skupper-router"
    (dynamic,) = [p for p in performatives if isinstance(p, Attach) and p.role is False]
    assert dynamic.source is not None
