"""The six control messages as routers of the native dialect write them, and as leniently as they read them.

HELLO, RA, LSR and LSU have string keys and ints; MAU and MAR symbols as keys and longs. What is written is what a
skrouterd writes, octet by octet; what is read may have other widths, string or symbol keys in any order, and more
entries than we know.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Final

from van.amqp.codec import decode_value
from van.amqp.errors import DecodeError
from van.amqp.message import AMQP_VALUE, APPLICATION_PROPERTIES, locate_sections
from van.routing.link_state.messages import (
    AREA,
    Control,
    Hello,
    LinkStateRequest,
    LinkStateUpdate,
    MobileAddress,
    MobileAddressRequest,
    MobileAddressUpdate,
    RouterAdvertisement,
)

HELLO_ADDRESS: Final = "amqp:/_local/qdhello"
ALL_ROUTERS: Final = "amqp:/_topo/0/all/qdrouter"
ALL_MOBILE: Final = "_topo/0/all/qdrouter.ma"

# Decoded messages are remembered by their octets: a HELLO is the same second after second, an advertisement comes from
# every neighbour. At this many octets of bodies everything is forgotten; larger bodies are not remembered at all.
MEMORY_OCTETS: Final = 1 << 22
MEMORY_LARGEST_BODY: Final = 1 << 14
# The addresses of a MAU are decoded with it up to this many, about 0.2 ms; longer lists when they are iterated over.
DECODED_AT_ONCE: Final = 64
# Sequence numbers and instances beyond a signed long cannot be written.
LARGEST_NUMBER: Final = (1 << 63) - 1
# Costs are summed along paths; no sum of these over a path of routers comes near to where integers slow down.
LARGEST_COST: Final = 1 << 31

_HEADER: Final = bytes.fromhex("005370d0000000050000000142")
_pack_u32: Final = struct.Struct(">I").pack
_pack_2u32: Final = struct.Struct(">II").pack
_unpack_2u32: Final = struct.Struct(">II").unpack_from
_pack_i32: Final = struct.Struct(">i").pack
_pack_i64: Final = struct.Struct(">q").pack


def router_address(router_id: str) -> str:
    """The address of the control messages for one router, but MAU and MAR."""
    return f"amqp:/_topo/0/{router_id}/qdrouter"


def router_mobile_address(router_id: str) -> str:
    """The address of MAU and MAR for one router."""
    return f"amqp:/_topo/0/{router_id}/qdrouter.ma"


# ---------------------------------------------------------------------------------------------------------- encoding


def _string(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return b"\xa1" + bytes((len(raw),)) + raw if len(raw) < 256 else b"\xb1" + _pack_u32(len(raw)) + raw


def _symbol(text: str) -> bytes:
    raw = text.encode("ascii")
    return b"\xa3" + bytes((len(raw),)) + raw


def _int(value: int) -> bytes:
    if -128 <= value <= 127:
        return b"\x54" + bytes((value & 0xFF,))
    if -0x80000000 <= value <= 0x7FFFFFFF:
        return b"\x71" + _pack_i32(value)
    return b"\x81" + _pack_i64(value)


def _long(value: int) -> bytes:
    return b"\x55" + bytes((value & 0xFF,)) if -128 <= value <= 127 else b"\x81" + _pack_i64(value)


def _compound(code: bytes, contents: bytes, count: int) -> bytes:
    return code + _pack_2u32(len(contents) + 4, count) + contents


def _list(items: list[bytes]) -> bytes:
    return _compound(b"\xd0", b"".join(items), len(items))


def _map(items: list[bytes]) -> bytes:
    return _compound(b"\xd1", b"".join(items), len(items))


_KEYS: Final = {
    name: _string(name) for name in ("id", "pv", "area", "instance", "seen", "ls_seq", "mobile_seq", "ls", "peers")
}
_SYMBOLS: Final = {
    name: _symbol(name) for name in ("id", "pv", "area", "mobile_seq", "have_seq", "exist", "add", "del")
}
_ID, _PV, _AREA, _INSTANCE = _KEYS["id"], _KEYS["pv"], _KEYS["area"], _KEYS["instance"]


def _message(opcode: str, to: str, entries: list[bytes]) -> bytes:
    """HELLO, RA, LSR and LSU: the properties have six fields, all behind `to` null."""
    return b"".join((
        _HEADER,
        b"\x00\x53\x73",
        _list([b"\x40", b"\x40", _string(to), b"\x40", b"\x40", b"\x40"]),
        b"\x00\x53\x74",
        _map([_string("opcode"), _string(opcode)]),
        b"\x00\x53\x77",
        _map(entries),
    ))


def _mobile_message(opcode: str, to: str, entries: list[bytes]) -> bytes:
    """MAU and MAR: the properties end with `to`, and keys are symbols."""
    return b"".join((
        _HEADER,
        b"\x00\x53\x73",
        _list([b"\x40", b"\x40", _string(to)]),
        b"\x00\x53\x74",
        _map([_symbol("opcode"), _string(opcode)]),
        b"\x00\x53\x77",
        _map(entries),
    ))


def encode_address(address: MobileAddress) -> bytes:
    """The descriptor of an address in a MAU."""
    items = [_string(address.key), _int(address.treatment), _int(address.in_links)]
    if address.mesh is not None:
        items += (b"\x40", _string(address.mesh))
    return _list(items)


def encode_withdrawn(key: str) -> bytes:
    """The descriptor of an address that a MAU takes away."""
    return _list([_string(key)])


def encode_descriptors(descriptors: Collection[bytes]) -> bytes:
    """The list of what `encode_address` or `encode_withdrawn` returned."""
    return _compound(b"\xd0", b"".join(descriptors), len(descriptors))


def encode_absolute(router_id: str, sequence: int, exist: bytes, to: str) -> bytes:
    """A MAU that tells all addresses; `exist` is what `encode_descriptors` returned."""
    head = [_SYMBOLS["id"], _string(router_id), _SYMBOLS["pv"], _long(2), _SYMBOLS["area"], _string(AREA)]
    return _mobile_message("MAU", to, [*head, _SYMBOLS["mobile_seq"], _long(sequence), _SYMBOLS["exist"], exist])


def encode_differential(router_id: str, sequence: int, add: bytes, delete: bytes, to: str) -> bytes:
    """A MAU that tells changes; `add` and `delete` are what `encode_descriptors` returned."""
    head = [_SYMBOLS["id"], _string(router_id), _SYMBOLS["pv"], _long(2), _SYMBOLS["area"], _string(AREA)]
    changes = [_SYMBOLS["add"], add, _SYMBOLS["del"], delete]
    return _mobile_message("MAU", to, [*head, _SYMBOLS["mobile_seq"], _long(sequence), *changes])


def encode_control(message: Control, to: str) -> bytes:
    """Return the octets of a message to the address `to`, from its header on."""
    router_id = _string(message.id)
    if isinstance(message, (MobileAddressUpdate, MobileAddressRequest)):
        return _encode_mobile(message, to)
    entries = [_ID, router_id, _PV, _int(message.protocol_version), _AREA, _string(message.area)]
    if isinstance(message, LinkStateRequest):
        return _message("LSR", to, entries)
    if isinstance(message, Hello):
        entries += (_INSTANCE, _int(message.instance))
        entries += (_KEYS["seen"], _list([_string(seen) for seen in message.seen]) if message.seen else b"\x45")
        return _message("HELLO", to, entries)
    if isinstance(message, RouterAdvertisement):
        entries += (_INSTANCE, _int(message.instance), _KEYS["ls_seq"], _int(message.link_state_sequence))
        entries += (_KEYS["mobile_seq"], _int(message.mobile_sequence))
        return _message("RA", to, entries)
    assert isinstance(message, LinkStateUpdate)
    sequence = _int(message.link_state_sequence)
    peers: list[bytes] = []
    for peer, cost in message.peers.items():
        peers += (_string(peer), _int(cost))
    state = [_ID, router_id, _AREA, _string(message.area), _KEYS["ls_seq"], sequence, _KEYS["peers"], _map(peers)]
    entries += (_INSTANCE, _int(message.instance), _KEYS["ls_seq"], sequence, _KEYS["ls"], _map(state))
    return _message("LSU", to, entries)


def _encode_mobile(message: MobileAddressUpdate | MobileAddressRequest, to: str) -> bytes:
    entries = [_SYMBOLS["id"], _string(message.id), _SYMBOLS["pv"], _long(message.protocol_version)]
    entries += (_SYMBOLS["area"], _string(message.area))
    if isinstance(message, MobileAddressRequest):
        return _mobile_message("MAR", to, [*entries, _SYMBOLS["have_seq"], _long(message.have_sequence)])
    entries += (_SYMBOLS["mobile_seq"], _long(message.mobile_sequence))
    if message.exist is not None:
        entries += (_SYMBOLS["exist"], encode_descriptors([encode_address(address) for address in message.exist]))
    else:
        entries += (_SYMBOLS["add"], encode_descriptors([encode_address(address) for address in message.add]))
        entries += (_SYMBOLS["del"], encode_descriptors([encode_withdrawn(address.key) for address in message.delete]))
    return _mobile_message("MAU", to, entries)


# ---------------------------------------------------------------------------------------------------------- decoding


class EncodedAddresses:
    """The addresses of a MAU, decoded while they are iterated over: a list of ten thousand is taken in pieces.

    Iterating raises DecodeError at an entry that is malformed.
    """

    __slots__ = ("_body", "_count", "_end", "_start")

    def __init__(self, body: bytes, start: int, end: int, count: int) -> None:
        self._body = body
        self._start = start
        self._end = end
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __contains__(self, address: object) -> bool:
        return any(address == each for each in self)

    def __iter__(self) -> Iterator[MobileAddress]:
        body = self._body
        pos = self._start
        end = self._end
        for _ in range(self._count):
            value, pos = decode_value(body, pos, end)
            yield _address(value)
        if pos != end:
            raise DecodeError(f"{end - pos} octets too many in a list of addresses")


def _address(value: object) -> MobileAddress:
    if type(value) is not list or not value:
        raise DecodeError("an address is not a list")
    key = value[0]
    if not isinstance(key, str) or not key:
        raise DecodeError("an address has no hash key")
    count = len(value)
    treatment = value[1] if count > 1 else 0
    in_links = value[2] if count > 2 else 0
    mesh = value[4] if count > 4 else None
    if not isinstance(treatment, int) or not isinstance(in_links, int):
        raise DecodeError("treatment or in-links of an address is not a number")
    return MobileAddress(str(key), int(treatment), int(in_links), str(mesh) if isinstance(mesh, str) else None)


_memory: dict[bytes, Control] = {}
_remembered = 0


def decode_control(body: bytes) -> Control:
    """Return the message that these octets are, from the header on. Raises DecodeError."""
    message = _memory.get(body)
    if message is None:
        message = _decode(body)
        if len(body) <= MEMORY_LARGEST_BODY:
            _remember(body, message)
    return message


def _remember(body: bytes, message: Control) -> None:
    global _remembered  # noqa: PLW0603 - one memory for all that is decoded in the process
    _remembered += len(body)
    if _remembered > MEMORY_OCTETS:
        _memory.clear()
        _remembered = len(body)
    _memory[body] = message


def _decode(body: bytes) -> Control:
    opcode = ""
    where = -1
    for code, _, value, _ in locate_sections(body):
        if code == APPLICATION_PROPERTIES:
            properties, _ = decode_value(body, value, len(body))
            opcode = _text(_entries(properties), "opcode")
        elif code == AMQP_VALUE:
            where = value
    if where < 0:
        raise DecodeError("a control message without amqp-value")
    if opcode == "MAU":
        return _decode_update(body, where)
    decoded, _ = decode_value(body, where, len(body))
    fields = _entries(decoded)
    router_id = _text(fields, "id")
    if not router_id:
        raise DecodeError("a control message without id")
    version = _number(fields, "pv", 0)
    area = _text(fields, "area", AREA)
    if opcode == "HELLO":
        seen = fields.get("seen", [])
        if not isinstance(seen, list):
            raise DecodeError("seen is not a list")
        ids = tuple([str(each) for each in seen if isinstance(each, str)])
        return Hello(router_id, _number(fields, "instance", 0), ids, version, area)
    if opcode == "RA":
        return RouterAdvertisement(
            router_id,
            _number(fields, "instance", 0),
            _number(fields, "ls_seq"),
            _number(fields, "mobile_seq", 0),
            version,
            area,
        )
    if opcode == "LSR":
        return LinkStateRequest(router_id, version, area)
    if opcode == "LSU":
        state = _entries(fields.get("ls"))
        peers: dict[str, int] = {}
        for peer, cost in _entries(state.get("peers")).items():
            if not isinstance(cost, int) or isinstance(cost, bool):
                raise DecodeError("the cost of a peer is not a number")
            peers[str(peer)] = min(max(int(cost), 1), LARGEST_COST)
        sequence = _number(state, "ls_seq") if "ls_seq" in state else _number(fields, "ls_seq")
        return LinkStateUpdate(router_id, _number(fields, "instance", 0), sequence, peers, version, area)
    if opcode == "MAR":
        return MobileAddressRequest(router_id, _number(fields, "have_seq"), version, area)
    raise DecodeError(f"unknown opcode {opcode!r}")


def _decode_update(body: bytes, pos: int) -> MobileAddressUpdate:
    """A MAU, whose lists stay as they are until somebody wants them."""
    count, pos, stop = _open_compound(body, pos, len(body), 0xC1, 0xD1)
    if count % 2:
        raise DecodeError("a map with a key too many")
    fields: dict[str, object] = {}
    lists: dict[str, Collection[MobileAddress]] = {}
    for _ in range(count // 2):
        key, pos = decode_value(body, pos, stop)
        if not isinstance(key, str):
            raise DecodeError("a key of a control message is not text")
        if key in ("exist", "add", "del"):
            lists[str(key)], pos = _open_addresses(body, pos, stop)
        else:
            fields[str(key)], pos = decode_value(body, pos, stop)
    router_id = _text(fields, "id")
    if not router_id:
        raise DecodeError("a control message without id")
    exist, add, delete = lists.get("exist"), lists.get("add"), lists.get("del")
    if (exist is None) == (add is None) or (add is None) != (delete is None):
        raise DecodeError("a MAU has either exist, or add and del")
    sequence = _number(fields, "mobile_seq")
    version, area = _number(fields, "pv", 0), _text(fields, "area", AREA)
    if exist is not None:
        return MobileAddressUpdate(router_id, sequence, exist=exist, protocol_version=version, area=area)
    assert add is not None
    assert delete is not None
    return MobileAddressUpdate(router_id, sequence, add=add, delete=delete, protocol_version=version, area=area)


def _open_addresses(body: bytes, pos: int, end: int) -> tuple[Collection[MobileAddress], int]:
    """The list at `pos`, and where it ends."""
    if pos < end and body[pos] == 0x45:
        return (), pos + 1
    count, start, stop = _open_compound(body, pos, end, 0xC0, 0xD0)
    # The shortest entry is a list8 of an empty string; what is even shorter cannot be right.
    if count > stop - start:
        raise DecodeError(f"{count} addresses in {stop - start} octets")
    addresses = EncodedAddresses(body, start, stop, count)
    return (tuple(addresses) if count <= DECODED_AT_ONCE else addresses), stop


def _open_compound(body: bytes, pos: int, end: int, code8: int, code32: int) -> tuple[int, int, int]:
    """Count of a list or map, where its contents begin and end."""
    code = body[pos] if pos < end else -1
    if code == code8 and pos + 3 <= end:
        count = body[pos + 2]
        start, stop = pos + 3, pos + 2 + body[pos + 1]
    elif code == code32 and pos + 9 <= end:
        size: int
        size, count = _unpack_2u32(body, pos + 1)
        start, stop = pos + 9, pos + 5 + size
    else:
        raise DecodeError(f"no list or map where there must be one at octet {pos}")
    if stop > end or stop < start:
        raise DecodeError(f"a list or map at octet {pos} does not fit")
    return count, start, stop


def _entries(value: object) -> dict[str, object]:
    """A map with text as keys, symbols or strings."""
    if not isinstance(value, dict):
        raise DecodeError("no map where there must be one")
    for key in value:
        if not isinstance(key, str):
            raise DecodeError("a key of a control message is not text")
    return value


def _text(fields: dict[str, object], name: str, default: str = "") -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise DecodeError(f"{name} is not text")
    return str(value)


def _number(fields: dict[str, object], name: str, default: int | None = None) -> int:
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_NUMBER:
        raise DecodeError(f"{name} is no number from 0 on")
    return int(value)
