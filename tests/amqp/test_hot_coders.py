"""The specialised coders of Transfer, Flow and Disposition (`hot.py`) say what the table-driven ones say.

Whatever the octets: either the table decoder agrees, or the specialised one hands them over to it.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.amqp.peer import decode_frames
from tests.amqp.strategies import composite
from van.amqp.delivery_state import ACCEPTED, RELEASED, Error, Rejected
from van.amqp.errors import DecodeError
from van.amqp.hot import (
    ABORTED,
    MORE,
    RARE,
    SETTLED,
    STATE_ACCEPTED,
    STATE_NONE,
    STATE_RARE,
    STATE_RELEASED,
    decode_disposition,
    decode_flow,
    decode_transfer,
    encode_accepted,
    encode_disposition,
    encode_flow,
    encode_transfer,
    transfer_prefix,
)
from van.amqp.performatives import Disposition, Flow, Performative, Transfer, decode_performative

# What stands in front of the list: the descriptor that the frame loop has looked at.
BEHIND = b"\x41\x52\x07\x45\xff"


def table(descriptor: int, octets: bytes, padding: bytes) -> Performative | None:
    """What the table decoder makes of the same octets; None for an error."""
    buf = bytes((0, 0x53, descriptor)) + octets + padding
    try:
        return decode_performative(buf, 0, len(buf) - len(padding))[0]
    except DecodeError:
        return None


def check_transfer(octets: bytes, padding: bytes = b"") -> bool:
    """Compare the two decoders; tells whether the specialised one took it."""
    buf = octets + padding
    handle, delivery_id, tag, message_format, flags, payload = decode_transfer(buf, 0, len(octets))
    if flags & RARE:
        return False
    expected = table(0x14, octets, padding)
    assert isinstance(expected, Transfer)
    assert handle == expected.handle
    assert delivery_id == (-1 if expected.delivery_id is None else expected.delivery_id)
    assert tag == expected.delivery_tag
    assert message_format == (-1 if expected.message_format is None else expected.message_format)
    assert bool(flags & SETTLED) == bool(expected.settled)
    assert bool(flags & MORE) == expected.more
    assert bool(flags & ABORTED) == expected.aborted
    assert (expected.state, expected.rcv_settle_mode, expected.resume) == (None, None, False)
    assert payload == decode_performative(b"\x00\x53\x14" + octets, 0, len(octets) + 3)[1] - 3
    return True


def check_disposition(octets: bytes, padding: bytes = b"") -> bool:
    role, first, last, settled, state = decode_disposition(octets + padding, 0, len(octets))
    if state == STATE_RARE:
        return False
    expected = table(0x15, octets, padding)
    assert isinstance(expected, Disposition)
    assert (role, first, settled) == (expected.role, expected.first, expected.settled)
    assert last == (first if expected.last is None else expected.last)
    assert {STATE_NONE: None, STATE_ACCEPTED: ACCEPTED, STATE_RELEASED: RELEASED}[state] == expected.state
    return True


def check_flow(octets: bytes, padding: bytes = b"") -> bool:
    fields = decode_flow(octets + padding, 0, len(octets))
    if fields is None:
        return False
    expected = table(0x13, octets, padding)
    assert isinstance(expected, Flow)
    values = [getattr(expected, field.attribute) for field in Flow.FIELDS]
    assert values[10] is None
    assert fields == [-1 if value is None else int(value) for value in values[:10]]
    return True


CHECKS = {0x13: check_flow, 0x14: check_transfer, 0x15: check_disposition}


# -- every encoding of every field --------------------------------------------------------------------------------

NULL = b"\x40"
uint = st.one_of(
    st.just(b"\x43"),
    st.integers(0, 255).map(lambda n: bytes((0x52, n))),
    st.integers(0, 0xFFFFFFFF).map(lambda n: b"\x70" + struct.pack(">I", n)),
)
boolean = st.sampled_from([b"\x41", b"\x42", b"\x56\x00", b"\x56\x01"])
binary = st.one_of(
    st.binary(max_size=40).map(lambda b: bytes((0xA0, len(b))) + b),
    st.binary(max_size=40).map(lambda b: b"\xb0" + struct.pack(">I", len(b)) + b),
)
states = st.sampled_from(
    [
        b"\x00\x53\x24\x45",
        b"\x00\x53\x26\x45",
        b"\x00\x53\x25\x45",
        b"\x00\x53\x24\xc0\x01\x00",
        b"\x00\x53\x26\xc0\x01\x00",
        b"\x00\x53\x24\xd0\x00\x00\x00\x04\x00\x00\x00\x00",
        b"\x00\x80\x00\x00\x00\x00\x00\x00\x00\x24\x45",
        b"\x00\xa3\x12amqp:accepted:list\x45",
        b"\x00\x53\x23\xc0\x04\x02\x43\x44\x44",
        b"\x00\x53\x24\xc0\x02\x01\x40",
        b"\x00\x53\x99\x45",
    ]
)
settle_mode = st.sampled_from([b"\x50\x00", b"\x50\x01", b"\x50\x02"])
anything = st.sampled_from(
    [NULL, b"\x41", b"\x43", b"\x44", b"\x52\x01", b"\x71\x00\x00\x00\x01", b"\xa1\x01a", b"\x45"]
)

TABLES: dict[int, list[st.SearchStrategy[bytes]]] = {
    0x13: [uint] * 8 + [boolean, boolean, st.sampled_from([b"\xc1\x01\x00", b"\xc1\x05\x02\xa3\x01a\x41"])],
    0x14: [uint, uint, binary, uint, boolean, boolean, settle_mode, states, boolean, boolean, boolean],
    0x15: [boolean, uint, uint, boolean, states, boolean],
}


@st.composite
def encoded_lists(draw: st.DrawFn, descriptor: int) -> bytes:
    """A list of a performative's fields, mostly right, in any encoding."""
    fields = TABLES[descriptor]
    count = draw(st.integers(0, len(fields) + 1))
    items = []
    for field in [*fields, anything][:count]:
        wrong = draw(st.integers(0, 30))
        items.append(draw(anything) if wrong == 0 else NULL if wrong > 24 else draw(field))
    body = b"".join(items)
    lie = draw(st.sampled_from([0] * 12 + [-1, 1]))
    counted = max(0, len(items) + lie)
    if len(body) < 255 and draw(st.booleans()):
        return bytes((0xC0, len(body) + 1, counted)) + body
    return b"\xd0" + struct.pack(">II", len(body) + 4, counted) + body


@pytest.mark.parametrize("descriptor", CHECKS)
@settings(max_examples=400)
@given(data=st.data())
def test_all_encodings_agree(descriptor: int, data: st.DataObject) -> None:
    octets = data.draw(encoded_lists(descriptor))
    CHECKS[descriptor](octets, data.draw(st.sampled_from([b"", BEHIND, b"payload"])))


@pytest.mark.parametrize("descriptor", CHECKS)
@given(data=st.data())
def test_truncations_and_changed_octets_agree(descriptor: int, data: st.DataObject) -> None:
    octets = bytearray(data.draw(encoded_lists(descriptor)))
    for _ in range(data.draw(st.integers(0, 2))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(octets[: data.draw(st.integers(0, len(octets)))])
    CHECKS[descriptor](cut)
    # What stands behind the frame is never looked at.
    CHECKS[descriptor](cut, bytes(octets[len(cut) :]) + BEHIND)


@pytest.mark.parametrize("descriptor", CHECKS)
@given(octets=st.binary(max_size=40))
@example(octets=b"")
@example(octets=b"\x45")
@example(octets=b"\xc0")
@example(octets=b"\xc0\x01\x00")
@example(octets=b"\xd0\xff\xff\xff\xff\xff\xff\xff\xff")
def test_garbage_agrees(descriptor: int, octets: bytes) -> None:
    CHECKS[descriptor](octets)
    CHECKS[descriptor](b"\xc0" + bytes((min(255, len(octets)),)) + octets)


@given(composite(Transfer))
def test_what_the_table_writes_of_a_transfer_is_read(transfer: Transfer) -> None:
    took = check_transfer(transfer.encode()[3:], b"payload")
    usual = transfer.rcv_settle_mode is None and transfer.state is None and not transfer.resume
    assert took == (usual and len(transfer.delivery_tag or b"") < 256)


@given(composite(Disposition))
def test_what_the_table_writes_of_a_disposition_is_read(disposition: Disposition) -> None:
    took = check_disposition(disposition.encode()[3:], b"payload")
    assert took == (disposition.state in (None, ACCEPTED, RELEASED))


@given(composite(Flow))
def test_what_the_table_writes_of_a_flow_is_read(flow: Flow) -> None:
    took = check_flow(flow.encode()[3:], b"payload")
    assert took == (flow.properties is None)


# -- encoders -----------------------------------------------------------------------------------------------------

ids = st.sampled_from([0, 1, 255, 256, 0xFFFFFFFF]) | st.integers(0, 0xFFFFFFFF)
channels = st.integers(0, 0xFFFF)
absent = st.just(-1)


def written(frame: bytes) -> tuple[int, Any]:
    (decoded,) = decode_frames(frame)
    assert decoded.payload == b""
    return decoded.channel, decoded.body


@given(channels, st.booleans(), ids, ids, st.booleans(), st.sampled_from([None, ACCEPTED, RELEASED, Rejected()]))
def test_a_disposition_is_written(
    channel: int, role: bool, first: int, last: int, settled: bool, state: Any
) -> None:
    octets = b"" if state is None else state.encode()
    body = Disposition(role=role, first=first, last=last, settled=settled, state=state)
    told_channel, told = written(encode_disposition(channel, role, first, last, settled, octets))
    if told.last is None:
        told.last = told.first
    assert (told_channel, told) == (channel, body)


@given(channels, ids, ids)
@example(0, 7, 7)
def test_an_acceptance_is_written(channel: int, first: int, last: int) -> None:
    body = Disposition(role=True, first=first, last=last if last != first else None, settled=True, state=ACCEPTED)
    assert written(encode_accepted(channel, first, last)) == (channel, body)


@pytest.mark.parametrize("size", [0, 200, 230, 245, 250, 260, 70000])
def test_a_disposition_of_any_size_is_written(size: int) -> None:
    state = Rejected(error=Error(condition="c", description="d" * size))
    assert written(encode_disposition(1, True, 7, 9, True, state.encode()))[1].state == state


@given(
    st.tuples(channels, absent | ids, ids, ids, ids),
    st.just((-1, -1, -1, -1, False)) | st.tuples(ids, absent | ids, absent | ids, absent | ids, st.booleans()),
    st.booleans(),
)
def test_a_flow_is_written(
    session: tuple[int, int, int, int, int], link: tuple[int, int, int, int, bool], echo: bool
) -> None:
    told_channel, told = written(encode_flow(*session, *link, echo))
    values = [*session[1:], *link, echo]
    assert told_channel == session[0]
    assert [getattr(told, field.attribute) for field in Flow.FIELDS[:10]] == [
        None if value == -1 and not isinstance(value, bool) else value for value in values
    ]


@given(
    channels,
    ids,
    absent | ids,
    st.none() | st.binary(max_size=300),
    absent | ids,
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.integers(0, 5000),
)
def test_a_transfer_is_written(
    channel: int,
    handle: int,
    delivery_id: int,
    tag: bytes | None,
    message_format: int,
    flags: tuple[bool, bool, bool],
    size: int,
) -> None:
    settled, more, aborted = flags
    head = encode_transfer(channel, handle, delivery_id, tag, message_format, settled, more, aborted, size)
    (frame,) = decode_frames(head + b"p" * size)
    assert frame.channel == channel
    assert frame.payload == b"p" * size
    assert frame.body == Transfer(
        handle=handle,
        delivery_id=None if delivery_id < 0 else delivery_id,
        delivery_tag=tag,
        message_format=None if message_format < 0 else message_format,
        settled=settled,
        # An aborted delivery has no more frames.
        more=more and not aborted,
        aborted=aborted,
    )


@given(channels, ids, ids, st.booleans(), st.binary(max_size=300))
def test_the_constant_part_of_a_transfer_fits_what_is_put_behind_it(
    channel: int, handle: int, delivery_id: int, settled: bool, payload: bytes
) -> None:
    octets = delivery_id.to_bytes(4, "big")
    flag = b"\x41" if settled else b"\x42"
    rest = transfer_prefix(channel, handle) + octets + b"\xa0\x04" + octets + b"\x43" + flag
    (frame,) = decode_frames(struct.pack(">I", 4 + len(rest) + len(payload)) + rest + payload)
    assert frame.channel == channel
    assert frame.payload == payload
    assert frame.body == Transfer(
        handle=handle, delivery_id=delivery_id, delivery_tag=octets, message_format=0, settled=settled
    )
