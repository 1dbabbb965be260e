"""Whole messages survive a way out and in; sections are written as specified (3.2) and checked when they come."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.amqp.strategies import composite, messages, octets, wide_count
from van.amqp.codec import EncodeError
from van.amqp.composite import Composite, decode_composite
from van.amqp.errors import DecodeError
from van.amqp.message import AmqpSequence, AmqpValue, Data, Header, Message, Properties
from van.amqp.types import Described, Int, MapPairs, Symbol, UByte, UInt, ULong
from van.router.version import build

ORDER = Message(
    properties=Properties(
        message_id="msg-000001",
        to="orders/new",
        subject="order",
        reply_to="replies/7",
        correlation_id="corr-42",
        content_type="application/octet-stream",
    ),
    application_properties={"colour": "green", "weight": Int(1234), "region": "eu-north-1"},
    body=Data(b"x" * 100),
)
# The same as another implementation writes it (python-qpid-proton 0.40): a header that says nothing, wide maps.
ORDER_OF_PROTON = (
    b"\x00SpE\x00Ss\xc0O\x07\xa1\nmsg-000001@\xa1\norders/new\xa1\x05order\xa1\treplies/7\xa1\x07corr-42"
    b"\xa3\x18application/octet-stream\x00St\xd1\x00\x00\x004\x00\x00\x00\x06\xa1\x06colour\xa1\x05green"
    b"\xa1\x06weightq\x00\x00\x04\xd2\xa1\x06region\xa1\neu-north-1\x00Su\xa0d" + b"x" * 100
)


def section(code: int, value: object) -> bytes:
    return octets(Described(ULong(code), value))


@given(messages())
def test_any_message_survives_a_way_out_and_in(message: Message) -> None:
    payload = message.encode()
    decoded = Message.decode(payload)
    assert decoded == message
    assert decoded.encode() == payload
    assert repr(message).startswith("Message(")


def test_a_typical_message_is_written_as_short_as_can_be() -> None:
    payload = ORDER.encode()
    assert payload == (
        b"\x00Ss\xc0O\x07\xa1\nmsg-000001@\xa1\norders/new\xa1\x05order\xa1\treplies/7\xa1\x07corr-42"
        b"\xa3\x18application/octet-stream\x00St\xc1\x31\x06\xa1\x06colour\xa1\x05green"
        b"\xa1\x06weightq\x00\x00\x04\xd2\xa1\x06region\xa1\neu-north-1\x00Su\xa0d" + b"x" * 100
    )
    assert Message.decode(payload) == ORDER


def test_a_message_of_another_implementation_means_the_same() -> None:
    decoded = Message.decode(ORDER_OF_PROTON)
    assert decoded.header == Header()
    decoded.header = None
    assert decoded == ORDER
    assert decoded.application_properties is not None
    assert type(decoded.application_properties["weight"]) is Int


@given(composite(Properties))
def test_the_fast_coders_of_the_properties_agree_with_the_table(properties: Properties) -> None:
    encoded = Composite.encode(properties)
    assert Message(properties=properties).encode() == encoded
    decoded, _ = decode_composite(encoded, 0, len(encoded))
    fast = Message.decode(encoded).properties
    assert fast == decoded == properties
    assert [type(getattr(fast, field.attribute)) for field in Properties.FIELDS] == [
        type(getattr(decoded, field.attribute)) for field in Properties.FIELDS
    ]


@given(st.lists(st.binary(max_size=8), max_size=15).map(lambda items: wide_count(0xD0, items)) | st.binary(max_size=40))
def test_they_agree_about_garbage(contents: bytes) -> None:
    encoded = b"\x00\x53\x73" + contents
    slow: object
    fast: object
    try:
        slow, end = decode_composite(encoded, 0, len(encoded))
    except DecodeError:
        slow, end = None, len(encoded)
    try:
        fast = Message.decode(encoded[:end]).properties
    except DecodeError:
        fast = None
    assert fast == slow


@pytest.mark.parametrize(
    ("body", "raw"),
    [
        (Data(b"ab"), "00 53 75 a0 02 61 62"),
        (Data(b"a" * 256), "00 53 75 b0 00000100" + "61" * 256),
        ([Data(b"a"), Data(b""), Data(b"c")], "00 53 75 a0 01 61 00 53 75 a0 00 00 53 75 a0 01 63"),
        (AmqpSequence([]), "00 53 76 45"),
        ([AmqpSequence([1]), AmqpSequence([None])], "00 53 76 c0 03 01 55 01 00 53 76 c0 02 01 40"),
        (AmqpValue(None), "00 53 77 40"),
        (AmqpValue("a"), "00 53 77 a1 01 61"),
        (AmqpValue(Described(ULong(0x31), [])), "00 53 77 00 53 31 45"),
    ],
    ids=repr,
)
def test_bodies_are_told_apart(body: object, raw: str) -> None:
    message = Message(body=body)  # type: ignore[arg-type]
    assert message.encode() == bytes.fromhex(raw)
    decoded = Message.decode(bytes.fromhex(raw))
    assert decoded == message
    assert repr(decoded) == f"Message(body={body!r})"


def test_a_list_of_one_data_is_one_section() -> None:
    assert Message(body=[Data(b"a")]).encode() == Message(body=Data(b"a")).encode()
    assert Message(body=[]).encode() == b""


def test_a_message_may_say_nothing() -> None:
    assert Message.decode(b"") == Message()
    assert Message(header=Header(), properties=Properties(), application_properties={}).encode() == bytes.fromhex(
        "00 53 70 45 00 53 73 45 00 53 74 c1 01 00"
    )
    with pytest.raises(TypeError):
        hash(Message())
    assert Message() != b""


def test_keys_of_annotations_are_symbols_and_keys_of_application_properties_strings() -> None:
    message = Message(
        delivery_annotations={"a": 1},
        message_annotations={ULong(7): 2},
        application_properties={"a": 3},
        footer={"a": 4},
    )
    assert message.encode() == bytes.fromhex(
        "00 53 71 c1 06 02 a3 01 61 55 01"
        "00 53 72 c1 05 02 53 07 55 02"
        "00 53 74 c1 06 02 a1 01 61 55 03"
        "00 53 78 c1 06 02 a3 01 61 55 04"
    )


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("c1 04 02 a1 00 40", {"": None}),
        ("d1 00000008 00000002 b1 00000000 40", None),
        ("d1 0000000a 00000002 b1 00000000 40", {"": None}),
        ("c1 0a 02 a1 01 61 71 ffffffff", None),
        ("c1 09 02 a1 01 61 71 ffffffff", {"a": Int(-1)}),
        ("c1 08 02 a3 01 61 a1 02 6262", {"a": "bb"}),
        ("c1 06 02 a1 01 61 54 05", {"a": Int(5)}),
        ("c1 07 02 a1 01 61 c0 01 00", {"a": []}),
        ("c1 04 02 a1 01 61", None),
        ("c1 05 02 a1 01 61 a1", None),
        ("c1 06 02 a1 01 61 a1 01", None),
        ("c1 06 02 a1 01 61 71 00", None),
        ("c1 06 02 a1 01 ff a1 00", None),
        ("c1 07 02 a1 01 61 a1 01 ff", None),
        ("c1 05 02 a1 01 61 46", None),
        ("c1 04 02 54 01 40", None),
        ("c1 04 02 a3 01 61", None),
        ("c1 04 02 a3 02 61", None),
        ("c1 05 02 a1 01 61 40 40", None),
        ("c1 06 02 a1 01 61 40 40", None),
        ("c1 09 04 a1 01 61 40 a1 01 61 40", None),
        ("c1 09 04 a1 01 61 40 a3 01 61 40", None),
        ("c1 02 01 40", None),
        ("c1 03 02 40 40", None),
        ("c1 01 02", None),
        ("c1", None),
        ("d1 00000004 000000", None),
        ("d1 00000004 fffffffe", None),
        ("c0 01 00", None),
        ("40", None),
    ],
)
def test_application_properties_octet_by_octet(raw: str, value: object) -> None:
    payload = b"\x00\x53\x74" + bytes.fromhex(raw)
    if value is None:
        with pytest.raises(DecodeError):
            Message.decode(payload)
    else:
        decoded = Message.decode(payload).application_properties
        assert decoded == value
        assert octets(decoded) == octets(value) or "a3" in raw


WRONG = {
    "nothing described": b"\x40",
    "a section that nobody knows": section(0x79, []),
    "a symbolic one": octets(Described(Symbol("mine"), [])),
    "router annotations": octets(Described(ULong(0x534B50522D2D5241), [])),
    "header behind properties": section(0x73, []) + section(0x70, []),
    "properties twice": section(0x73, []) * 2,
    "two values": section(0x77, 1) * 2,
    "data behind a sequence": section(0x76, []) + section(0x75, b""),
    "sequence behind data": section(0x75, b"") + section(0x76, []),
    "sequence behind two data": section(0x75, b"") * 2 + section(0x76, []),
    "value behind data": section(0x75, b"") + section(0x77, 1),
    "data that is text": section(0x75, "a"),
    "sequence that is a map": section(0x76, {}),
    "header that is a map": section(0x70, {}),
    "header with six fields": section(0x70, [True, UByte(1), UInt(1), True, UInt(1), None]),
    "header with a text": section(0x70, ["true"]),
    "annotations that are a list": section(0x71, []),
    "annotations with keys that look alike": section(0x72, MapPairs([("a", 1), (Symbol("a"), 2)])),
    "footer that is null": section(0x78, None),
    "properties with fourteen fields": section(0x73, [None] * 14),
    "properties that are null": section(0x73, None),
    "properties with text as user-id": section(0x73, [None, "user"]),
    "properties with a number as to": section(0x73, [None, None, 1]),
    "properties with a symbol as subject": section(0x73, [None, None, None, Symbol("a")]),
    "properties with text that leaves them": b"\x00\x53\x73\xc0\x04\x01\xa1\x05a" + b"\x40" * 9,
    "properties with text that is no UTF-8": b"\x00\x53\x73\xc0\x04\x01\xa1\x01\xff",
    # Found by fuzzing: the octet that begins a described type was taken for a constructor of text.
    "properties with something described as user-id": bytes.fromhex("00 53 73 c0 07 03 a1 01 01 00 00 40"),
    "properties with octets behind the last": b"\x00\x53\x73\xc0\x03\x01\x40\x40",
    "properties with an item too few": b"\x00\x53\x73\xc0\x02\x02\x40",
    "data cut short": b"\x00\x53\x75\xa0\x05abc",
    "data without a size": b"\x00\x53\x75\xa0",
    "a descriptor cut short": b"\x00\x53",
    "a wide descriptor cut short": b"\x00\x80\0\0\0",
    "a symbolic descriptor cut short": b"\x00\xa3\x10amqp",
    "a descriptor alone": b"\x00\x53\x77",
}


@pytest.mark.parametrize("payload", WRONG.values(), ids=WRONG)
def test_what_is_no_message_is_a_decode_error(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        Message.decode(payload)


@given(messages())
def test_a_message_cut_at_any_octet_is_shorter_or_a_decode_error(message: Message) -> None:
    payload = message.encode()
    for size in range(min(len(payload), 120)):
        try:
            decoded = Message.decode(payload[:size])
        except DecodeError:
            continue
        # Sections are missing at the end.
        assert payload.startswith(decoded.encode())


def test_symbolic_descriptors_of_sections_are_understood() -> None:
    payload = (
        octets(Described(Symbol("amqp:header:list"), [True]))
        + octets(Described(Symbol("amqp:delivery-annotations:map"), {Symbol("a"): 1}))
        + octets(Described(Symbol("amqp:message-annotations:map"), {Symbol("a"): 2}))
        + octets(Described(Symbol("amqp:properties:list"), ["id"]))
        + octets(Described(Symbol("amqp:application-properties:map"), {"a": 3}))
        + octets(Described(Symbol("amqp:data:binary"), b"d"))
        + octets(Described(Symbol("amqp:footer:map"), {Symbol("a"): 4}))
    )
    assert Message.decode(payload) == Message(
        header=Header(durable=True),
        delivery_annotations={"a": 1},
        message_annotations={"a": 2},
        properties=Properties(message_id="id"),
        application_properties={"a": 3},
        body=Data(b"d"),
        footer={"a": 4},
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Message(properties=Properties(to="\ud800")), "to: '\\ud800' is not Unicode text"),
        (lambda: Message(properties=Properties(to=1)), "amqp:properties:list: to: 1 is no string"),  # type: ignore[arg-type]
        (lambda: Message(properties=Properties(content_type="ä")), "content-type: symbol 'ä' is not ASCII"),
        (lambda: Message(application_properties={1: 2}), "key 1 is no string"),  # type: ignore[dict-item]
        (lambda: Message(application_properties={"a": {1, 2}}), "set is no AMQP type"),
        (lambda: Message(application_properties={"\ud800": 1}), "key '\\ud800' is not Unicode text"),
        (lambda: Message(application_properties={"a": "\ud800"}), "a: '\\ud800' is not Unicode text"),
        (lambda: Message(message_annotations={"ä": 1}), "not ASCII"),
        (lambda: Message(footer=[]), "is no map"),  # type: ignore[arg-type]
        (lambda: Message(body=[Data(b""), AmqpSequence([])]), "AmqpSequence among sections of Data"),  # type: ignore[arg-type]
        (lambda: Message(body=[AmqpValue(1)]), "AmqpValue is no body"),  # type: ignore[arg-type]
        (lambda: Message(body=b"octets"), "bytes is no body"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_written_is_an_encode_error(make: Callable[[], Message], text: str) -> None:
    try:
        message = make()
    except TypeError:
        # Compiled classes refuse what is of another type than its attribute already when they are made.
        assert build() == "compiled"
        return
    with pytest.raises(EncodeError, match=re.escape(text)):
        message.encode()


def test_long_and_symbolic_application_properties_are_written_as_what_they_are() -> None:
    message = Message(application_properties={"k" * 256: "v" * 256, Symbol("s"): Symbol("t")})
    assert b"\xb1\0\0\x01\x00kk" in message.encode()
    assert b"\xb1\0\0\x01\x00vv" in message.encode()
    assert message.encode().endswith(b"\xa3\x01s\xa3\x01t")
    many = Message(application_properties={f"{n}": None for n in range(128)})
    assert many.encode()[3:4] == b"\xd1"
    for original in (message, many):
        assert Message.decode(original.encode()) == original


def test_long_texts_in_properties_are_written_wide() -> None:
    message = Message(properties=Properties(subject="s" * 256, content_type="c" * 256))
    assert b"\xb1\0\0\x01\x00ss" in message.encode()
    assert b"\xb3\0\0\x01\x00cc" in message.encode()
    assert Message.decode(message.encode()) == message
