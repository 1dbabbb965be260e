"""Sections are found without decoding them; `to` and the priority are read from a message that has only begun."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.amqp.strategies import messages, octets, values, wide_count
from van.amqp.errors import DecodeError
from van.amqp.message import (
    AMQP_VALUE,
    APPLICATION_PROPERTIES,
    DATA,
    DEFAULT_PRIORITY,
    FOOTER,
    HEADER,
    PROPERTIES,
    UNKNOWN_SECTION,
    AmqpSequence,
    AmqpValue,
    Data,
    Header,
    IncompleteMessageError,
    Message,
    Properties,
    locate_section,
    locate_sections,
    read_priority,
    read_to,
)
from van.amqp.types import Described, Symbol, UByte, ULong

TYPICAL = Message(
    header=Header(priority=7),
    message_annotations={"x-opt-a": 1},
    properties=Properties(message_id="m", to="orders/new", subject="order"),
    application_properties={"colour": "green"},
    body=Data(b"x" * 300),
    footer={"x-opt-b": 2},
)
ANNOTATIONS = octets(Described(ULong(0x534B50522D2D5241), [1, None, "0/A", []]))


def test_sections_are_found_where_they_are() -> None:
    payload = TYPICAL.encode()
    sections = locate_sections(payload)
    assert [code for code, _, _, _ in sections] == [HEADER, 0x72, PROPERTIES, APPLICATION_PROPERTIES, DATA, FOOTER]
    assert sections[0][1] == 0
    assert sections[-1][3] == len(payload)
    assert all(before[3] == after[1] for before, after in pairwise(sections))
    assert [locate_section(payload, start) for _, start, _, _ in sections] == [
        (code, value, end) for code, _, value, end in sections
    ]
    _, start, value, end = sections[4]
    assert payload[start:value] == b"\x00\x53\x75"
    assert payload[value:end] == b"\xb0\0\0\x01\x2c" + b"x" * 300


def test_nothing_is_no_section() -> None:
    assert locate_sections(b"") == []
    with pytest.raises(IncompleteMessageError):
        locate_section(b"", 0)


def test_the_contents_of_sections_are_not_looked_at() -> None:
    assert locate_sections(b"\x00\x53\x73\xc0\x03\xff\xff\xff") == [(PROPERTIES, 0, 3, 8)]


def test_descriptors_may_be_wide_symbolic_and_unknown() -> None:
    payload = (
        ANNOTATIONS
        + b"\x00\x80\0\0\0\0\0\0\0\x70\x45"
        + octets(Described(Symbol("amqp:properties:list"), []))
        + octets(Described(Symbol("somebody:else"), None))
        + octets(Described(1, None))
        + octets(Described(Described(ULong(1), ULong(2)), None))
        + b"\x00\x53\x77\x40"
    )
    codes = [code for code, _, _, _ in locate_sections(payload)]
    unknown = UNKNOWN_SECTION
    assert codes == [0x534B50522D2D5241, HEADER, PROPERTIES, unknown, unknown, unknown, AMQP_VALUE]


@given(messages())
def test_the_sections_of_any_message_are_found(message: Message) -> None:
    payload = message.encode()
    sections = locate_sections(payload)
    assert sum(end - start for _, start, _, end in sections) == len(payload)
    assert [code for code, _, _, _ in sections] == sorted(code for code, _, _, _ in sections)
    assert read_to(payload) == (message.properties.to if message.properties else None)
    priority = message.header.priority if message.header else None
    assert read_priority(payload) == (DEFAULT_PRIORITY if priority is None else priority)
    in_front = ANNOTATIONS + payload
    assert read_to(in_front) == read_to(payload)
    assert read_priority(in_front) == read_priority(payload)


@given(messages(), st.data())
def test_a_message_that_has_only_begun_gives_the_same_answer_or_says_that_it_is_incomplete(
    message: Message, data: st.DataObject
) -> None:
    payload = message.encode()
    begun = payload[: data.draw(st.integers(0, len(payload)))]
    with suppress(IncompleteMessageError):
        assert read_to(begun, whole=False) == read_to(payload)
    with suppress(IncompleteMessageError):
        assert read_priority(begun) == read_priority(payload) or begun == b""
    located = locate_sections(payload)
    if all(len(begun) != end for _, _, _, end in located) and begun:
        with pytest.raises(IncompleteMessageError):
            locate_sections(begun)


def test_only_what_is_needed_must_have_come() -> None:
    payload = TYPICAL.encode()
    (_, header_start, _, header_end), _, (_, properties_start, _, _), *_ = locate_sections(payload)
    for size in range(1, header_end - header_start):
        with pytest.raises(IncompleteMessageError):
            read_priority(payload[:size])
    assert read_priority(payload[:header_end]) == 7
    for size in range(header_start + 1, header_end):
        with pytest.raises(IncompleteMessageError):
            locate_section(payload[:size], 0)
    with pytest.raises(IncompleteMessageError):
        read_priority(ANNOTATIONS[:-1])
    until_to = payload.index(b"orders/new") + len(b"orders/new")
    for size in range(properties_start + 1, until_to):
        with pytest.raises(IncompleteMessageError):
            read_to(payload[:size])
    assert read_to(payload[:until_to]) == "orders/new"


def test_wide_properties_may_be_cut_as_well() -> None:
    items = [octets("m" * 300), octets(b"user"), octets("to" * 200), octets("subject")]
    payload = b"\x00\x53\x73" + wide_count(0xD0, items)
    until_to = 3 + 9 + sum(len(item) for item in items[:3])
    for size in range(1, until_to):
        with pytest.raises(IncompleteMessageError):
            read_to(payload[:size])
    assert read_to(payload[:until_to]) == "to" * 200
    assert read_to(payload) == "to" * 200


def test_a_beginning_without_properties_says_nothing_yet() -> None:
    header = Header(priority=1).encode()
    assert read_to(header) is None
    with pytest.raises(IncompleteMessageError):
        read_to(header, whole=False)
    with pytest.raises(IncompleteMessageError):
        read_to(b"", whole=False)
    assert read_to(b"") is None
    assert read_priority(b"") == DEFAULT_PRIORITY
    assert read_to(header + AMQP_VALUE_NULL, whole=False) is None


AMQP_VALUE_NULL = b"\x00\x53\x77\x40"


def section(code: int, *items: object) -> bytes:
    return octets(Described(ULong(code), list(items)))


@pytest.mark.parametrize(
    ("payload", "to"),
    [
        (section(PROPERTIES), None),
        (section(PROPERTIES, "m", b""), None),
        (section(PROPERTIES, "m", b"", None), None),
        (section(PROPERTIES, "m", b"", None, "subject"), None),
        (section(PROPERTIES, ULong(1), b"u" * 300, "t"), "t"),
        (b"\x00\x53\x73\xd0\0\0\0\x04\0\0\0\0", None),
        (b"\x00\x53\x73\xc0\x08\x03\x40\x40\xb1\0\0\0\x00", ""),
        (b"\x00\x53\x73\xc0\x04\x03\x40\x40\x40", None),
    ],
    ids=repr,
)
def test_to_may_be_absent_or_written_wide(payload: bytes, to: str | None) -> None:
    assert read_to(payload) == to


@pytest.mark.parametrize(
    "payload",
    [
        b"\x40",
        b"\x00\x46\x40",
        b"\x00\x53\x73\x40",
        octets(Described(ULong(PROPERTIES), {})),
        section(PROPERTIES, "m", b"", Symbol("to")),
        section(PROPERTIES, "m", b"", 1),
        b"\x00\x53\x73\xc0\x06\x03\x40\x40\xa1\x01\xff",
        b"\x00\x53\x73\xc0\x07\x03\x40\x40\xb1\0\0\0",  # cut
        b"\x00\x53\x73\xc0\x03\x03\x40\x40",
        b"\x00\x53\x73\xc0\x02\x03\x40" + b"\x40" * 9,
        b"\x00\x53\x73\xc0\x05\x03\x40\x40\xa1\x09" + b"t" * 9,
        b"\x00\x53\x73\xc0\x04\x03\x40\x40\xa1" + b"\x01t",
        b"\x00\x53\x73\xc0\x04\x03\xa1\x09\x40" + b"\x40" * 20,
        b"\x00\x53\x73\xc0\x05\x03\x40\x40\x46\x40",
    ],
    ids=repr,
)
def test_properties_that_are_none_are_a_decode_error(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        read_to(payload)


@pytest.mark.parametrize(
    ("payload", "priority"),
    [
        (section(HEADER), DEFAULT_PRIORITY),
        (section(HEADER, True), DEFAULT_PRIORITY),
        (section(HEADER, True, None), DEFAULT_PRIORITY),
        (section(HEADER, True, UByte(0)), 0),
        (section(HEADER, None, UByte(255)), 255),
        (section(PROPERTIES, None), DEFAULT_PRIORITY),
        (ANNOTATIONS + section(HEADER, None, UByte(9)), 9),
        (ANNOTATIONS, DEFAULT_PRIORITY),
    ],
    ids=repr,
)
def test_the_priority_is_four_unless_the_header_says_otherwise(payload: bytes, priority: int) -> None:
    assert read_priority(payload) == priority


@pytest.mark.parametrize(
    "payload",
    [
        b"\x40",
        section(HEADER, True, 4),
        section(HEADER, True, True),
        b"\x00\x53\x70\x40\x40",
        b"\x00\x53\x70\xc0\x03\x02\x46\x40",
        b"\x00\x53\x70\xc0\x02\x02\x40" + b"\x50\x01",
    ],
    ids=repr,
)
def test_headers_that_are_none_are_a_decode_error(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        read_priority(payload)


@given(st.binary(max_size=60))
def test_any_octets_are_answered_or_a_decode_error(garbage: bytes) -> None:
    for reader in (read_to, read_priority, locate_sections, Message.decode):
        for prefix in (b"", b"\x00\x53\x73\xc0", b"\x00\x53\x70\xd0\0\0\0", b"\x00\x53\x74\xc1"):
            with suppress(DecodeError):
                reader(prefix + garbage)


@given(messages(), st.data())
def test_messages_with_changed_octets_are_a_message_or_a_decode_error(message: Message, data: st.DataObject) -> None:
    payload = bytearray(message.encode() or b"\x40")
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = Message.decode(bytes(payload))
    except DecodeError:
        return
    # Whoever can decode the whole can read the parts.
    assert read_to(bytes(payload)) == (decoded.properties.to if decoded.properties else None)
    read_priority(bytes(payload))
    locate_sections(bytes(payload))
    assert Message.decode(decoded.encode()).encode() == decoded.encode()


@given(values())
def test_body_kinds_are_told_apart(value: object) -> None:
    assert AmqpValue(value) != AmqpSequence([value])
    assert AmqpSequence([value]) != Data(b"")
    assert Data(b"") != AmqpValue(b"")
