"""What is read beside the octets that real routers write, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.routing.link_state.test_control_recorded import RECORDED, fields
from van.amqp.codec import encode_value
from van.amqp.errors import DecodeError
from van.amqp.message import AmqpValue, Message, Properties
from van.amqp.types import Described, Int, Symbol, UInt, ULong, UShort
from van.routing.dialect.control import (
    EncodedAddresses,
    decode_control,
    encode_absolute,
    encode_address,
    encode_control,
    encode_descriptors,
    encode_differential,
    encode_withdrawn,
)
from van.routing.link_state.messages import (
    Control,
    Hello,
    LinkStateRequest,
    LinkStateUpdate,
    MobileAddress,
    MobileAddressRequest,
    MobileAddressUpdate,
    RouterAdvertisement,
)


def body(opcode: str, value: object, key: str = "opcode") -> bytes:
    message = Message(
        body=AmqpValue(value), properties=Properties(to="x"), application_properties={key: opcode}
    )
    return message.encode()


WIDTHS = [UInt(3), ULong(3), UShort(3), Int(3), 3]


@pytest.mark.parametrize("number", WIDTHS, ids=[type(width).__name__ for width in WIDTHS])
@pytest.mark.parametrize("kind", [str, Symbol])
def test_numbers_of_any_width_and_keys_of_both_kinds(number: int, kind: type[str]) -> None:
    value = {
        kind(key): field
        for key, field in {
            "mobile_seq": number, "extra": [1, {}], "ls_seq": number, "id": "B", "instance": number, "pv": number,
        }.items()
    }  # fmt: skip
    expected = RouterAdvertisement("B", 3, 3, 3, 3)
    assert fields(decode_control(body("RA", value))) == fields(expected)


def test_a_missing_version_is_none_and_a_missing_area_the_only_one() -> None:
    message = decode_control(body("LSR", {"id": "B"}))
    assert (message.protocol_version, message.area) == (0, "0")


def test_the_header_may_be_missing() -> None:
    octets = RECORDED["lsr"][1]
    assert fields(decode_control(bytes.fromhex(octets)[13:])) == fields(RECORDED["lsr"][0])


def test_costs_that_cannot_be_are_brought_into_range() -> None:
    state = {"id": "B", "ls_seq": 1, "peers": {"A": 0, "C": -5, "D": 1 << 40}}
    message = decode_control(body("LSU", {"id": "B", "pv": 1, "instance": 1, "ls_seq": 1, "ls": state}))
    assert isinstance(message, LinkStateUpdate)
    assert message.peers == {"A": 1, "C": 1, "D": 1 << 31}


MALFORMED: dict[str, tuple[str, object]] = {
    "unknown opcode": ("XYZ", {"id": "B"}),
    "no map": ("RA", [1, 2]),
    "no id": ("RA", {"ls_seq": 1, "mobile_seq": 1}),
    "an empty id": ("RA", {"id": "", "ls_seq": 1, "mobile_seq": 1}),
    "an id that is a number": ("LSR", {"id": 7}),
    "a boolean as number": ("RA", {"id": "B", "ls_seq": True}),
    "a negative sequence": ("RA", {"id": "B", "ls_seq": -1}),
    "a sequence that is too large": ("RA", {"id": "B", "ls_seq": ULong(1 << 63)}),
    "no sequence": ("RA", {"id": "B"}),
    "text as number": ("MAR", {"id": "B", "have_seq": "1"}),
    "seen is no list": ("HELLO", {"id": "B", "seen": "A"}),
    "keys that are numbers": ("RA", {1: 2, "id": "B"}),
    "no link state": ("LSU", {"id": "B", "ls_seq": 1}),
    "a cost that is text": ("LSU", {"id": "B", "ls_seq": 1, "ls": {"peers": {"A": "1"}}}),
    "peers are a list": ("LSU", {"id": "B", "ls_seq": 1, "ls": {"peers": ["A"]}}),
    "exist and add": ("MAU", {"id": "B", "mobile_seq": 1, "exist": [], "add": [], "del": []}),
    "add without del": ("MAU", {"id": "B", "mobile_seq": 1, "add": []}),
    "no addresses at all": ("MAU", {"id": "B", "mobile_seq": 1}),
    "addresses in a map": ("MAU", {"id": "B", "mobile_seq": 1, "exist": {}}),
    "an address that is text": ("MAU", {"id": "B", "mobile_seq": 1, "exist": ["Mq"]}),
    "an address without key": ("MAU", {"id": "B", "mobile_seq": 1, "exist": [[None, 3]]}),
    "an address that is empty": ("MAU", {"id": "B", "mobile_seq": 1, "exist": [[]]}),
    "a treatment that is text": ("MAU", {"id": "B", "mobile_seq": 1, "exist": [["Mq", "3"]]}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_this_is_malformed(name: str) -> None:
    with pytest.raises(DecodeError):
        decode_control(body(*MALFORMED[name]))


def test_an_address_may_say_less_or_more() -> None:
    message = decode_control(
        body("MAU", {"id": "B", "mobile_seq": 1, "exist": [["M1"], ["M2", 2], ["M3", 3, 4, None, "mesh", "more"]]})
    )
    assert isinstance(message, MobileAddressUpdate)
    assert list(message.exist or ()) == [
        MobileAddress("M1", 0, 0), MobileAddress("M2", 2, 0), MobileAddress("M3", 3, 4, "mesh"),
    ]  # fmt: skip


def test_no_opcode_is_an_unknown_one() -> None:
    with pytest.raises(DecodeError):
        decode_control(body("RA", {"id": "B", "ls_seq": 1}, key="other"))
    with pytest.raises(DecodeError):
        decode_control(b"")


def test_the_lists_of_large_updates_are_read_when_they_are_wanted() -> None:
    addresses = [MobileAddress(f"M{number}", 3, 0) for number in range(1000)]
    octets = encode_control(MobileAddressUpdate("B", 1, exist=addresses), "x")
    message = decode_control(octets)
    assert isinstance(message, MobileAddressUpdate)
    assert isinstance(message.exist, EncodedAddresses)
    assert len(message.exist) == 1000
    assert list(message.exist) == addresses
    assert addresses[7] in message.exist
    assert MobileAddress("M7", 2, 0) not in message.exist


def test_a_list_that_says_more_entries_than_it_can_hold_is_refused_before_anything_is_made() -> None:
    out = bytearray()
    encode_value(Described(ULong(0x74), {"opcode": "MAU"}), out)
    entries = b"\xa1\x02id\xa1\x01B\xa1\x0amobile_seq\x55\x01\xa1\x05exist\xd0\x00\x00\x00\x05\x7f\xff\xff\xff\x40"
    out += b"\x00\x53\x77\xc1" + bytes((len(entries) + 1, 6)) + entries
    with pytest.raises(DecodeError):
        decode_control(bytes(out))


def test_what_is_encoded_in_pieces_is_the_same() -> None:
    address = MobileAddress("Mq", 3, 1, "mesh")
    whole = encode_control(MobileAddressUpdate("B", 5, exist=[address]), "x")
    assert encode_absolute("B", 5, encode_descriptors([encode_address(address)]), "x") == whole
    whole = encode_control(MobileAddressUpdate("B", 5, add=[address], delete=[MobileAddress("Mz", 0, 0)]), "x")
    pieces = encode_descriptors([encode_address(address)]), encode_descriptors([encode_withdrawn("Mz")])
    assert encode_differential("B", 5, *pieces, "x") == whole


ids = st.text("abcXYZ059.-_é", min_size=1, max_size=300)
numbers = st.integers(0, (1 << 63) - 1)
mobile = st.builds(
    MobileAddress, ids, st.integers(0, 200), st.integers(0, 1 << 31), st.none() | st.text("abc", min_size=1)
)
messages: st.SearchStrategy[Control] = st.one_of(
    st.builds(Hello, ids, numbers, st.lists(ids, max_size=5).map(tuple)),
    st.builds(RouterAdvertisement, ids, numbers, numbers, numbers),
    st.builds(LinkStateRequest, ids),
    st.builds(LinkStateUpdate, ids, numbers, numbers, st.dictionaries(ids, st.integers(1, 1 << 31), max_size=5)),
    st.builds(MobileAddressRequest, ids, numbers),
    st.builds(MobileAddressUpdate, ids, numbers, exist=st.lists(mobile, max_size=5)),
    st.builds(
        MobileAddressUpdate,
        ids,
        numbers,
        add=st.lists(mobile, max_size=5),
        delete=st.lists(ids.map(lambda key: MobileAddress(key, 0, 0)), max_size=5),
    ),
)


@given(messages)
def test_what_we_write_we_read(message: Control) -> None:
    assert fields(decode_control(encode_control(message, "amqp:/_topo/0/all/qdrouter"))) == fields(message)


def read_all(octets: bytes) -> None:
    message = decode_control(octets)
    if isinstance(message, MobileAddressUpdate):
        for addresses in (message.exist or (), message.add, message.delete):
            list(addresses)


@given(st.binary(max_size=400))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    with contextlib.suppress(DecodeError):
        read_all(octets)


@given(st.sampled_from([octets for _, octets in RECORDED.values()]), st.data())
def test_damaged_messages_are_read_or_refused(octets: str, data: st.DataObject) -> None:
    damaged = bytearray.fromhex(octets)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))
    with contextlib.suppress(DecodeError):
        read_all(bytes(damaged[:end]))
