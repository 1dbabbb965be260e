"""Composites survive a way out and in, whatever their fields hold, and are as short as they can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.amqp.strategies import composite, composites, octets, values, wide_count
from van.amqp.codec import decode_value
from van.amqp.composite import Composite, as_composite, decode_composite, registered_composites
from van.amqp.delivery_state import (
    ACCEPTED,
    RELEASED,
    Accepted,
    Declare,
    Error,
    Modified,
    Received,
    Rejected,
    TransactionalState,
)
from van.amqp.errors import DecodeError
from van.amqp.performatives import (
    ROLE_RECEIVER,
    ROLE_SENDER,
    Attach,
    Begin,
    Close,
    Disposition,
    Flow,
    Open,
    Transfer,
    decode_performative,
)
from van.amqp.sasl_frames import SaslInit, SaslMechanisms, decode_sasl_frame
from van.amqp.terminus import Coordinator, DeleteOnClose, Source, Target
from van.amqp.types import Array, Described, Symbol, UInt, ULong


def decode(encoded: bytes) -> object:
    value, end = decode_composite(encoded, 0, len(encoded))
    assert end == len(encoded)
    return value


@given(composites())
def test_any_composite_survives_a_way_out_and_in(original: Composite) -> None:
    encoded = original.encode()
    decoded = decode(encoded)
    assert decoded == original
    assert isinstance(decoded, Composite)
    assert decoded.encode() == encoded
    assert repr(original).startswith(type(original).__name__ + "(")


@given(st.data())
def test_the_symbolic_descriptor_and_wide_encodings_mean_the_same(data: st.DataObject) -> None:
    original = data.draw(composites())
    described, _ = decode_value(original.encode(), 0, len(original.encode()))
    assert isinstance(described, Described)
    assert isinstance(described.value, list)
    items = [octets(item) for item in described.value]
    named = b"\x00" + octets(Symbol(original.NAME)) + wide_count(0xD0, items)
    assert decode(named) == original
    numbered = b"\x00\x80" + original.DESCRIPTOR.to_bytes(8, "big") + wide_count(0xD0, items)
    assert decode(numbered) == original


@given(st.data())
def test_a_composite_cut_at_any_octet_is_a_decode_error(data: st.DataObject) -> None:
    encoded = data.draw(composites()).encode()
    for size in range(min(len(encoded), 100)):
        with pytest.raises(DecodeError):
            decode_composite(encoded, 0, size)


@given(st.data())
def test_a_composite_with_changed_octets_is_a_value_or_a_decode_error(data: st.DataObject) -> None:
    encoded = bytearray(data.draw(composites()).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded, _ = decode_composite(bytes(encoded), 0, len(encoded))
    except DecodeError:
        return
    if isinstance(decoded, Composite):
        again = decode(decoded.encode())
        assert isinstance(again, Composite)
        assert again.encode() == decoded.encode()


@pytest.mark.parametrize("cls", registered_composites(), ids=lambda cls: cls.NAME)
def test_absent_fields_have_their_defaults(cls: type[Composite]) -> None:
    mandatory = [field for field in cls.FIELDS if field.mandatory]
    if mandatory:
        with pytest.raises(DecodeError, match=f"{cls.NAME}: {mandatory[0].name} is mandatory"):
            decode(bytes((0x00, 0x53, cls.DESCRIPTOR, 0x45)))
    else:
        decoded = decode(bytes((0x00, 0x53, cls.DESCRIPTOR, 0x45)))
        assert decoded == cls()
        assert [getattr(decoded, field.attribute) for field in cls.FIELDS] == [field.default for field in cls.FIELDS]


@given(st.sampled_from(registered_composites()).flatmap(lambda cls: st.tuples(composite(cls), composite(cls))))
def test_composites_are_equal_when_all_their_fields_are(pair: tuple[Composite, Composite]) -> None:
    left, right = pair
    same = all(getattr(left, field.attribute) == getattr(right, field.attribute) for field in left.FIELDS)
    assert (left == right) == same
    assert left != octets(left)


def test_states_without_fields_are_shared_and_three_octets_and_a_list0() -> None:
    assert ACCEPTED.encode() == bytes.fromhex("00 53 24 45")
    assert RELEASED.encode() == bytes.fromhex("00 53 26 45")
    assert decode(ACCEPTED.encode()) == ACCEPTED
    assert decode(RELEASED.encode()) == RELEASED != ACCEPTED
    assert repr(ACCEPTED) == "Accepted()"
    with pytest.raises(TypeError):
        hash(ACCEPTED)


def test_trailing_fields_that_say_nothing_are_left_out() -> None:
    assert Close().encode() == bytes.fromhex("00 53 18 45")
    assert Open(container_id="a").encode() == bytes.fromhex("00 53 10 c0 04 01 a1 01 61")
    assert (
        Open(container_id="a", max_frame_size=4294967295, channel_max=65535).encode() == Open(container_id="a").encode()
    )
    assert Begin(next_outgoing_id=0, incoming_window=1, outgoing_window=256).encode() == bytes.fromhex(
        "00 53 11 c0 0a 04 40 43 52 01 70 00000100"
    )
    # A mandatory field is written even where it is zero or false.
    assert Disposition(role=ROLE_SENDER, first=0).encode() == bytes.fromhex("00 53 15 c0 03 02 42 43")


def test_a_big_composite_gets_a_wide_list() -> None:
    encoded = Open(container_id="c" * 300).encode()
    assert encoded[:12] == bytes.fromhex("00 53 10 d0 00000135 00000001")[:12]
    assert decode(encoded) == Open(container_id="c" * 300)


def test_performatives_are_written_octet_by_octet_as_specified() -> None:
    flow = Flow(
        next_incoming_id=1,
        incoming_window=2,
        next_outgoing_id=3,
        outgoing_window=4,
        handle=0,
        delivery_count=5,
        link_credit=6,
    )
    assert flow.encode() == bytes.fromhex("00 53 13 c0 0e 07 52 01 52 02 52 03 52 04 43 52 05 52 06")
    transfer = Transfer(handle=0, delivery_id=0, delivery_tag=b"t", message_format=0, settled=False, more=True)
    assert transfer.encode() == bytes.fromhex("00 53 14 c0 09 06 43 43 a0 01 74 43 42 41")
    disposition = Disposition(role=ROLE_RECEIVER, first=1, last=2, settled=True, state=ACCEPTED)
    assert disposition.encode() == bytes.fromhex("00 53 15 c0 0b 05 41 52 01 52 02 41 00 53 24 45")
    attach = Attach(
        name="l",
        handle=0,
        role=ROLE_SENDER,
        source=Source(),
        target=Target(address="q"),
        unsettled={b"t": Received(section_number=0, section_offset=1), b"u": None},
        initial_delivery_count=0,
    )
    assert attach.encode() == bytes.fromhex(
        "00 53 12 c0 2a 0a a1 01 6c 43 42 40 40 00 53 28 45 00 53 29 c0 04 01 a1 01 71"
        "c1 11 04 a0 01 74 00 53 23 c0 04 02 43 53 01 a0 01 75 40 40 43"
    )
    assert decode(attach.encode()) == attach


def test_one_of_a_multiple_field_is_written_bare_and_several_as_an_array() -> None:
    def capabilities(*names: str) -> bytes:
        return Target(capabilities=list(names)).encode()[12:]

    assert capabilities("a") == bytes.fromhex("a3 01 61")
    assert capabilities("a", "b") == bytes.fromhex("e0 06 02 a3 01 61 01 62")
    assert capabilities() == bytes.fromhex("e0 02 00 a3")
    assert Target(capabilities=["a", "b" * 300]).encode()[18:28] == bytes.fromhex("f0 0000013a 00000002 b3")


def test_a_multiple_field_may_hold_one_bare_an_array_nothing_or_null() -> None:
    def capabilities(raw: str) -> object:
        contents = bytes.fromhex("40 40 40 40 40 40" + raw)
        target = decode(bytes((0x00, 0x53, 0x29, 0xC0, len(contents) + 1, 7)) + contents)
        assert isinstance(target, Target)
        return target.capabilities

    assert capabilities("a3 01 61") == ["a"]
    assert capabilities("e0 04 01 a3 01 61") == ["a"]
    assert capabilities("f0 0000000a 00000001 b3 00000001 61") == ["a"]
    assert capabilities("e0 02 00 a3") == []
    assert capabilities("40") is None
    for wrong in ("a1 01 61", "e0 04 01 a1 01 61", "c0 04 01 a3 01 61", "e0 07 01 00 53 01 a3 01 61"):
        with pytest.raises(DecodeError, match="amqp:target:list: capabilities"):
            capabilities(wrong)


def test_sasl_mechanisms_are_an_array_even_when_there_is_one() -> None:
    encoded = SaslMechanisms(sasl_server_mechanisms=["PLAIN"]).encode()
    assert encoded == bytes.fromhex("00 53 40 c0 0b 01 e0 08 01 a3 05 50 4c 41 49 4e")
    assert decode_sasl_frame(encoded, 0, len(encoded)) == (
        SaslMechanisms(sasl_server_mechanisms=["PLAIN"]),
        len(encoded),
    )


def test_keys_of_fields_are_symbols() -> None:
    encoded = Open(container_id="a", properties={"product": "van"}).encode()
    assert b"\xa3\x07product\xa1\x03van" in encoded
    # Strings from others are taken; nobody can confuse them.
    opened = decode(encoded.replace(b"\xa3\x07product", b"\xa1\x07product"))
    assert opened == Open(container_id="a", properties={"product": "van"})


def test_composites_within_fields_become_composites() -> None:
    source = Source(
        dynamic=True,
        dynamic_node_properties={"lifetime-policy": DeleteOnClose()},
        default_outcome=Modified(delivery_failed=True),
        filter={"selector": Described(Symbol("apache.org:selector-filter:string"), "a = 1")},
    )
    assert decode(source.encode()) == source
    state = TransactionalState(
        txn_id=b"t", outcome=Rejected(error=Error(condition="amqp:not-found", info={"a": UInt(1)}))
    )
    assert decode(state.encode()) == state
    assert decode(Declare(global_id=[UInt(1), "any"]).encode()) == Declare(global_id=[UInt(1), "any"])
    attach = Attach(name="c", handle=1, role=ROLE_SENDER, target=Coordinator(capabilities=["amqp:local-transactions"]))
    assert decode(attach.encode()) == attach


def test_states_and_filters_that_nobody_knows_are_kept_and_written_the_same() -> None:
    state = Described(ULong(0x1234), [UInt(1), Array(0x54)])
    encoded = Disposition(role=ROLE_SENDER, first=1, state=state).encode()
    assert decode(encoded) == Disposition(role=ROLE_SENDER, first=1, state=state)
    unknown = octets(Described(Symbol("mine"), {"a": 1}))
    assert decode(unknown) == Described(Symbol("mine"), {"a": 1})
    assert as_composite(Described(7, [])) == Described(7, [])


def test_the_payload_begins_behind_the_performative() -> None:
    encoded = Transfer(handle=1).encode()
    assert decode_performative(b"...." + encoded + b"payload", 4, 4 + len(encoded) + 7) == (
        Transfer(handle=1),
        4 + len(encoded),
    )


@given(values())
def test_only_performatives_and_sasl_frames_are_bodies_of_frames(value: object) -> None:
    encoded = octets(value)
    for decoder in (decode_performative, decode_sasl_frame):
        with pytest.raises(DecodeError):
            decoder(encoded, 0, len(encoded))


@pytest.mark.parametrize("wrong", [ACCEPTED, SaslInit(mechanism="PLAIN"), Described(ULong(99), [])], ids=repr)
def test_other_composites_are_no_performative(wrong: object) -> None:
    with pytest.raises(DecodeError, match="no performative"):
        decode_performative(octets(wrong), 0, len(octets(wrong)))


@pytest.mark.parametrize("wrong", [ACCEPTED, Close(), Described(ULong(99), [])], ids=repr)
def test_other_composites_are_no_sasl_frame(wrong: object) -> None:
    with pytest.raises(DecodeError, match="no SASL frame"):
        decode_sasl_frame(octets(wrong), 0, len(octets(wrong)))


def test_composites_may_stand_inside_any_value() -> None:
    assert octets({"state": Accepted()}) == bytes.fromhex("c1 0c 02 a1 05 7374617465 00 53 24 45")
