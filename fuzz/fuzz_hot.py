"""Whatever a specialised decoder of `hot.py` takes, the table decoder reads the same; it never raises.

The first octet says which of the three; the rest is the list of the performative, and what stands behind its frame.
"""

from __future__ import annotations

from harness import main

from van.amqp.delivery_state import ACCEPTED, RELEASED
from van.amqp.hot import (
    ABORTED,
    MORE,
    RARE,
    SETTLED,
    STATE_ACCEPTED,
    STATE_RARE,
    STATE_RELEASED,
    decode_disposition,
    decode_flow,
    decode_transfer,
)
from van.amqp.performatives import Disposition, Flow, Transfer, decode_performative

DECODER = {"van.amqp.hot": "^decode"}

PLANTED = (
    # A list that says it is longer than its frame.
    (
        "van.amqp.hot",
        "        if stop > end or count == 0:\n            return _RARE_TRANSFER",
        "        if count == 0:\n            return _RARE_TRANSFER",
    ),
    # Fields that end before the list does, or behind it.
    (
        "van.amqp.hot",
        "        if p != stop:\n            return _RARE_DISPOSITION",
        "",
    ),
    # Mandatory fields of a Flow.
    (
        "van.amqp.hot",
        "        if p != stop or fields[1] < 0 or fields[2] < 0 or fields[3] < 0:",
        "        if p != stop or fields[1] < 0 or fields[2] < 0:",
    ),
)


def one_input(data: bytes) -> None:
    if len(data) < 3:
        return
    kind = data[0] % 3
    # How much of the octets is the frame: a decoder never looks behind it.
    frame = data[2:]
    end = len(frame) - data[1] if data[1] < len(frame) else len(frame)
    octets = frame[:end]
    if kind == 0:
        _check_transfer(frame, end, octets)
    elif kind == 1:
        _check_disposition(frame, end, octets)
    else:
        _check_flow(frame, end, octets)


def _check_transfer(frame: bytes, end: int, octets: bytes) -> None:
    handle, delivery_id, tag, message_format, flags, payload = decode_transfer(frame, 0, end)
    if flags & RARE:
        return
    transfer, behind = decode_performative(b"\x00\x53\x14" + octets, 0, end + 3)
    assert isinstance(transfer, Transfer)
    assert payload == behind - 3
    assert handle == transfer.handle
    assert delivery_id == (-1 if transfer.delivery_id is None else transfer.delivery_id)
    assert tag == transfer.delivery_tag
    assert message_format == (-1 if transfer.message_format is None else transfer.message_format)
    assert bool(flags & SETTLED) == bool(transfer.settled)
    assert bool(flags & MORE) == transfer.more
    assert bool(flags & ABORTED) == transfer.aborted
    assert transfer.state is None
    assert transfer.rcv_settle_mode is None
    assert not transfer.resume


def _check_disposition(frame: bytes, end: int, octets: bytes) -> None:
    role, first, last, settled, state = decode_disposition(frame, 0, end)
    if state == STATE_RARE:
        return
    disposition, _ = decode_performative(b"\x00\x53\x15" + octets, 0, end + 3)
    assert isinstance(disposition, Disposition)
    assert role == disposition.role
    assert first == disposition.first
    assert last == (first if disposition.last is None else disposition.last)
    assert settled == disposition.settled
    expected = {STATE_ACCEPTED: ACCEPTED, STATE_RELEASED: RELEASED}.get(state)
    assert disposition.state == expected


def _check_flow(frame: bytes, end: int, octets: bytes) -> None:
    fields = decode_flow(frame, 0, end)
    if fields is None:
        return
    flow, _ = decode_performative(b"\x00\x53\x13" + octets, 0, end + 3)
    assert isinstance(flow, Flow)
    assert flow.properties is None
    values = [getattr(flow, field.attribute) for field in Flow.FIELDS[:10]]
    assert fields == [-1 if value is None else int(value) for value in values]


main(__name__)
