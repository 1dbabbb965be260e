"""Composites that are not what their table says: the error names the composite and the field."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.amqp.strategies import octets
from van.amqp.codec import MAX_DEPTH, EncodeError, decode_value
from van.amqp.composite import Composite, decode_composite
from van.amqp.delivery_state import ACCEPTED, Declared, Discharge, Error, Modified, Received, Rejected
from van.amqp.errors import DecodeError
from van.amqp.message import Properties
from van.amqp.performatives import Attach, Begin, Close, Detach, Disposition, Flow, Open, Transfer, decode_performative
from van.amqp.sasl_frames import SaslInit, SaslMechanisms, SaslOutcome
from van.amqp.terminus import Source, Target
from van.amqp.types import Described, MapPairs, Symbol, UByte, UInt, ULong, UShort
from van.router.version import build


def listed(cls: type[Composite], *fields: object) -> bytes:
    return octets(Described(ULong(cls.DESCRIPTOR), list(fields)))


NULLS = (None,) * 14
ATTACH = ("name", UInt(0), True)

WRONG: list[tuple[type[Composite], tuple[object, ...], str]] = [
    (Open, (), "container-id is mandatory"),
    (Open, (None, "host"), "container-id is mandatory"),
    (Open, (Symbol("a"),), "container-id is no string, but Symbol"),
    (Open, ("a", None, UShort(1)), "max-frame-size is no uint, but UShort"),
    (Open, ("a", None, 1), "max-frame-size is no uint, but int"),
    (Open, ("a", None, None, UInt(1)), "channel-max is no ushort, but UInt"),
    (Open, ("a", None, None, None, None, None, None, [Symbol("x")]), "offered-capabilities is no symbol, but list"),
    (Open, ("a", *NULLS[:8], []), "properties is no fields, but list"),
    (Open, ("a", *NULLS[:8], {1: 2}), "properties has a key that is no symbol, but int"),
    (Open, ("a", *NULLS[:8], MapPairs([("a", 1), (Symbol("a"), 1)])), "properties is no fields, but MapPairs"),
    (Open, ("a", *NULLS[:9], None), "11 fields, it has 10"),
    (Begin, (None, UInt(0), UInt(0)), "outgoing-window is mandatory"),
    (Attach, ("name", UInt(0), UByte(1)), "role is no boolean, but UByte"),
    (Attach, (*ATTACH, UByte(3)), "snd-settle-mode has no value 3"),
    (Attach, (*ATTACH, None, UByte(2)), "rcv-settle-mode has no value 2"),
    (Attach, (*ATTACH, None, None, "queue"), "source is no source, but str"),
    (Attach, (*ATTACH, None, None, ACCEPTED), "source is no source, but Accepted"),
    (Attach, (*ATTACH, None, None, Target()), "source is no source, but Target"),
    (Attach, (*ATTACH, None, None, None, Source()), "target is no target, but Source"),
    (Attach, (*ATTACH, None, None, None, None, {b"t": Described(ULong(0x24), {})}), "described value is no list"),
    (Attach, (*ATTACH, None, None, None, None, [b"t"]), "unsettled is no map, but list"),
    (Flow, (None, UInt(0), UInt(0)), "outgoing-window is mandatory"),
    (Transfer, (UInt(0), None, "tag"), "delivery-tag is no binary, but str"),
    (Transfer, (UInt(0), *NULLS[:6], Error(condition="a")), "state is no delivery-state, but Error"),
    (Disposition, (False, UInt(0), None, None, Described(ULong(0x24), {})), "described value is no list"),
    (
        Disposition,
        (False, UInt(0), None, None, Described(Symbol("amqp:accepted:list"), None)),
        "described value is no list",
    ),
    (Disposition, (False, UInt(0), None, None, Described(ULong(0x24), [None])), "1 fields, it has 0"),
    (Detach, (UInt(0), None, ACCEPTED), "error is no error, but Accepted"),
    (Detach, (UInt(0), None, Described(ULong(0x999), [])), "error is no error, but Described"),
    (Close, (Described(ULong(0x1D), []),), "condition is mandatory"),
    (Received, (UInt(1), UInt(1)), "section-offset is no ulong, but UInt"),
    (Modified, (None, None, "a"), "message-annotations is no fields, but str"),
    (Source, (Symbol("a"),), "address is no address, but Symbol"),
    (Source, (None, UInt(3)), "durable has no value 3"),
    (Source, (None, None, Symbol("sometimes")), "expiry-policy has no value sometimes"),
    (Source, (*NULLS[:8], Received(section_number=0, section_offset=0)), "default-outcome is no outcome, but Received"),
    (Source, (*NULLS[:9], Symbol("a"), "b"), "capabilities is no symbol, but str"),
    (Declared, ("a",), "txn-id is no txn-id, but str"),
    (Discharge, (), "txn-id is mandatory"),
    (SaslInit, ("PLAIN",), "mechanism is no symbol, but str"),
    (SaslMechanisms, (None,), "sasl-server-mechanisms is mandatory"),
    (SaslOutcome, (UByte(5),), "code has no value 5"),
    (Properties, (1,), "message-id is no message-id, but int"),
]


@pytest.mark.parametrize(("cls", "fields", "text"), WRONG, ids=[f"{cls.__name__} {text}" for cls, _, text in WRONG])
def test_what_the_table_does_not_allow_is_a_decode_error(
    cls: type[Composite], fields: tuple[object, ...], text: str
) -> None:
    encoded = listed(cls, *fields)
    with pytest.raises(DecodeError, match=re.escape(text)) as caught:
        decode_composite(encoded, 0, len(encoded))
    assert re.search(r"amqp:[a-z-]+:list: ", caught.value.description)


@pytest.mark.parametrize("raw", ["", "40", "45", "c0 01 00", "a1 00"])
def test_what_is_not_described_is_no_composite(raw: str) -> None:
    encoded = bytes.fromhex(raw)
    with pytest.raises(DecodeError, match="no described type"):
        decode_composite(encoded, 0, len(encoded))


@pytest.mark.parametrize("value", [{}, "text", None, UInt(0)], ids=repr)
def test_a_performative_is_a_list(value: object) -> None:
    encoded = octets(Described(ULong(0x10), value))
    with pytest.raises(DecodeError, match="amqp:open:list: the described value is no list"):
        decode_performative(encoded, 0, len(encoded))


UNENCODABLE: list[tuple[Callable[[], Composite], str]] = [
    (lambda: Open(container_id=None), "container-id is mandatory"),  # type: ignore[arg-type]
    (lambda: Open(container_id=1), "container-id: 1 is no string"),  # type: ignore[arg-type]
    (lambda: Open(container_id="a", channel_max=65536), "channel-max: 65536 is no ushort"),
    (lambda: Open(container_id="a", max_frame_size=1 << 32), "max-frame-size"),
    (lambda: Open(container_id="a", max_frame_size="1"), "max-frame-size: '1' is no uint"),  # type: ignore[arg-type]
    (lambda: Open(container_id="a", offered_capabilities="ab"), "'ab' is no list"),  # type: ignore[arg-type]
    (lambda: Open(container_id="a", offered_capabilities=[1]), "1 is no symbol"),  # type: ignore[list-item]
    (lambda: Open(container_id="a", offered_capabilities=["ä", "b"]), "not ASCII"),
    (lambda: Open(container_id="a", properties=[]), "is no map"),  # type: ignore[arg-type]
    (lambda: Open(container_id="a", properties={"ä": 1}), "not ASCII"),
    (lambda: Attach(name="a", handle=0, role=1), "role: 1 is no boolean"),  # type: ignore[arg-type]
    (lambda: Attach(name="a", handle=0, role=True, snd_settle_mode=3), "3 is no sender-settle-mode"),
    (lambda: Attach(name="a", handle=0, role=True, source="q"), "'q' is no described type"),  # type: ignore[arg-type]
    (lambda: Attach(name="a", handle=0, role=True, unsettled=[]), "is no map"),  # type: ignore[arg-type]
    (lambda: Attach(name="a", handle=0, role=True, max_message_size="1"), "is no ulong"),  # type: ignore[arg-type]
    (lambda: Transfer(handle=0, delivery_tag="t"), "'t' is no binary"),  # type: ignore[arg-type]
    (lambda: SaslInit(mechanism=b"PLAIN"), "is no symbol"),  # type: ignore[arg-type]
    (lambda: SaslOutcome(code=9), "9 is no sasl-code"),
    (lambda: Properties(message_id=True), "True is no message-id"),
    (lambda: Properties(message_id=-1), "-1 does not fit ulong"),
    (lambda: Properties(message_id=0.5), "0.5 is no message-id"),  # type: ignore[arg-type]
    (lambda: Properties(creation_time="now"), "'now' is no timestamp"),  # type: ignore[arg-type]
    (lambda: Rejected(error=Error(condition="ä")), "amqp:error:list: condition"),
]


@pytest.mark.parametrize(("make", "text"), UNENCODABLE, ids=[text for _, text in UNENCODABLE])
def test_what_cannot_be_written_is_an_encode_error(make: Callable[[], Composite], text: str) -> None:
    try:
        composite = make()
    except TypeError:
        # Compiled classes refuse what is of another type than its attribute already when they are made.
        assert build() == "compiled"
        return
    with pytest.raises(EncodeError, match=re.escape(text)):
        composite.encode()


def test_a_header_s_priority_is_one_octet() -> None:
    from van.amqp.message import Header

    with pytest.raises(EncodeError, match="256 is no ubyte"):
        Header(priority=256).encode()


def nested(levels: int) -> object:
    value: object = None
    for _ in range(levels):
        value = [value]
    return value


def test_fields_count_the_levels_above_them() -> None:
    # The description, its list and the map stand above.
    allowed = Open(container_id="a", properties={"deep": nested(MAX_DEPTH - 3)})
    encoded = allowed.encode()
    assert decode_composite(encoded, 0, len(encoded))[0] == allowed
    with pytest.raises(EncodeError, match="nested deeper"):
        Open(container_id="a", properties={"deep": nested(MAX_DEPTH - 2)}).encode()


def test_composites_inside_values_count_the_levels_above_them() -> None:
    def inside(composite: Composite, levels: int) -> bytes:
        value: object = composite
        for _ in range(levels):
            value = [value]
        return octets(value)

    # A composite without fields has no list that would be a level.
    for composite, own in ((ACCEPTED, 1), (Modified(delivery_failed=True), 2)):
        encoded = inside(composite, MAX_DEPTH - own)
        decode_value(encoded, 0, len(encoded))
        with pytest.raises(EncodeError, match="nested deeper"):
            inside(composite, MAX_DEPTH - own + 1)
    with pytest.raises(EncodeError, match="nested deeper"):
        inside(Open(container_id="a", properties={}), MAX_DEPTH - 2)
