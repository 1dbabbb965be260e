"""Specialised coders for Transfer, Flow and Disposition, the performatives that come with every message.

They read the forms that peers send all the time and hand everything else back to the table-driven decoder
(`performatives.decode_performative`); `tests/amqp/test_hot_coders.py` proves that both agree.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import FunctionType
from typing import Final

# Bits of the flags that `decode_transfer` returns.
SETTLED: Final = 1
MORE: Final = 2
ABORTED: Final = 4
RARE: Final = 8
# Never returned by it: what the table decoder found instead.
RESUMED: Final = 16

_UINT: Final = struct.Struct(">I")
_unpack_uint: Final = _UINT.unpack_from
pack_uint: Final = _UINT.pack

# The octets in front of a performative's list: 00 53 and the code.
DESCRIPTOR_SIZE: Final = 3

_RARE_TRANSFER: Final[tuple[int, int, bytes | None, int, int, int]] = (0, -1, None, -1, RARE, 0)

# Disposition states as `decode_disposition` returns them.
STATE_NONE: Final = 0
STATE_ACCEPTED: Final = 0x24
STATE_RELEASED: Final = 0x26
STATE_RARE: Final = -1

_RARE_DISPOSITION: Final = (False, 0, 0, False, STATE_RARE)


def decode_transfer(buf: bytes, pos: int, end: int) -> tuple[int, int, bytes | None, int, int, int]:
    """Decode the list of a Transfer whose constructor is at `pos` (behind the descriptor).

    Returns handle, delivery-id (-1: absent), delivery-tag, message-format (-1: absent), flags, and where the payload
    begins. With `RARE` in the flags nothing else is valid and the table decoder has to be asked.
    """
    try:
        code = buf[pos]
        if code == 0xC0:
            stop = pos + 2 + buf[pos + 1]
            count = buf[pos + 2]
            p = pos + 3
        elif code == 0xD0:
            stop = pos + 5 + _unpack_uint(buf, pos + 1)[0]
            count = _unpack_uint(buf, pos + 5)[0]
            p = pos + 9
        else:
            return _RARE_TRANSFER
        if stop > end or count == 0:
            return _RARE_TRANSFER
        code = buf[p]
        if code == 0x43:
            handle = 0
            p += 1
        elif code == 0x52:
            handle = buf[p + 1]
            p += 2
        elif code == 0x70:
            handle = _unpack_uint(buf, p + 1)[0]
            p += 5
        else:
            return _RARE_TRANSFER
        delivery_id = -1
        tag: bytes | None = None
        message_format = -1
        flags = 0
        if count > 1:
            code = buf[p]
            if code == 0x52:
                delivery_id = buf[p + 1]
                p += 2
            elif code == 0x70:
                delivery_id = _unpack_uint(buf, p + 1)[0]
                p += 5
            elif code == 0x43:
                delivery_id = 0
                p += 1
            elif code == 0x40:
                p += 1
            else:
                return _RARE_TRANSFER
            if count > 2:
                code = buf[p]
                if code == 0xA0:
                    length = buf[p + 1]
                    p += 2
                    tag = buf[p : p + length]
                    p += length
                elif code == 0x40:
                    p += 1
                else:
                    return _RARE_TRANSFER
                if count > 3:
                    code = buf[p]
                    if code == 0x43:
                        message_format = 0
                        p += 1
                    elif code == 0x40:
                        p += 1
                    elif code == 0x52:
                        message_format = buf[p + 1]
                        p += 2
                    elif code == 0x70:
                        message_format = _unpack_uint(buf, p + 1)[0]
                        p += 5
                    else:
                        return _RARE_TRANSFER
                    if count > 4:
                        code = buf[p]
                        p += 1
                        if code == 0x41:
                            flags = SETTLED
                        elif code != 0x42 and code != 0x40:
                            return _RARE_TRANSFER
                        if count > 5:
                            code = buf[p]
                            p += 1
                            if code == 0x41:
                                flags |= MORE
                            elif code != 0x42 and code != 0x40:
                                return _RARE_TRANSFER
                            if count > 6:
                                # rcv-settle-mode, state, resume, aborted, batchable: seldom there, seldom other
                                # than null or false.
                                if count > 11:
                                    return _RARE_TRANSFER
                                for index in range(6, count):
                                    code = buf[p]
                                    p += 1
                                    if code == 0x40 or (code == 0x42 and index > 7):
                                        continue
                                    if code == 0x41 and index == 9:
                                        flags |= ABORTED
                                    elif code != 0x41 or index != 10:
                                        return _RARE_TRANSFER
        if p != stop:
            return _RARE_TRANSFER
        return handle, delivery_id, tag, message_format, flags, p
    except (IndexError, struct.error):
        return _RARE_TRANSFER


# Interpreted, `decode_transfer` costs 0.5 us, and a Transfer of a known layout 0.2. Compiled it is C already.
LEARNS_LAYOUTS: Final = isinstance(decode_transfer, FunctionType)


class TransferLayout:
    """How a sender writes its Transfers: octets that are the same in all, around delivery-id and tag.

    A Transfer that has them says the same as the one that the layout was taken from, but for these two; it is taken
    apart by one call: `unpack(buf, pos)` returns the size of the frame at `pos`, `before`, delivery-id, `between`, tag
    and `behind`. `size` is that of the frame without its payload.
    """

    __slots__ = ("before", "behind", "between", "handle", "message_format", "settled", "size", "unpack")

    def __init__(self, head: bytes, start: int, tag: bytes, handle: int, message_format: int, settled: bool) -> None:
        self.size = 4 + len(head)
        self.handle = handle
        self.message_format = message_format
        self.settled = settled
        rest = len(head) - start - 6 - len(tag)
        self.unpack: Callable[[bytes, int], tuple[int, bytes, int, bytes, bytes, bytes]] = struct.Struct(
            f">I{start}sI2s{len(tag)}s{rest}s"
        ).unpack_from
        _, self.before, _, self.between, _, self.behind = self.unpack(bytes(4) + head, 0)


def layout_of(
    channel: int, fields: bytes, handle: int, tag: bytes | None, message_format: int, flags: int
) -> TransferLayout | None:
    """The layout of a Transfer as `decode_transfer` has read it; None where delivery-ids may be written otherwise,
    and for one that is not all of its delivery.

    fields: the octets of the list.
    """
    if tag is None or flags & ~SETTLED:
        return None
    start = 3 if fields[0] == 0xC0 else 9
    start += {0x43: 1, 0x52: 2, 0x70: 5}[fields[start]]
    if fields[start] != 0x70:
        # Ids below 256 are shorter, and soon over.
        return None
    head = b"\x02\x00" + channel.to_bytes(2, "big") + b"\x00\x53\x14"
    return TransferLayout(head + fields, len(head) + start + 1, tag, handle, message_format, flags == SETTLED)


def decode_disposition(buf: bytes, pos: int, end: int) -> tuple[bool, int, int, bool, int]:
    """Decode the list of a Disposition whose constructor is at `pos`.

    Returns role, first, last, settled and the state: `STATE_NONE`, `STATE_ACCEPTED`, `STATE_RELEASED`, or `STATE_RARE`
    when nothing here is valid and the table decoder has to be asked.
    """
    try:
        code = buf[pos]
        if code == 0xC0:
            stop = pos + 2 + buf[pos + 1]
            count = buf[pos + 2]
            p = pos + 3
        elif code == 0xD0:
            stop = pos + 5 + _unpack_uint(buf, pos + 1)[0]
            count = _unpack_uint(buf, pos + 5)[0]
            p = pos + 9
        else:
            return _RARE_DISPOSITION
        if stop > end or count < 2 or count > 6:
            return _RARE_DISPOSITION
        code = buf[p]
        if code == 0x41:
            role = True
        elif code == 0x42:
            role = False
        else:
            return _RARE_DISPOSITION
        p += 1
        code = buf[p]
        if code == 0x52:
            first = buf[p + 1]
            p += 2
        elif code == 0x70:
            first = _unpack_uint(buf, p + 1)[0]
            p += 5
        elif code == 0x43:
            first = 0
            p += 1
        else:
            return _RARE_DISPOSITION
        last = first
        settled = False
        state = STATE_NONE
        if count > 2:
            code = buf[p]
            if code == 0x52:
                last = buf[p + 1]
                p += 2
            elif code == 0x70:
                last = _unpack_uint(buf, p + 1)[0]
                p += 5
            elif code == 0x43:
                last = 0
                p += 1
            elif code == 0x40:
                p += 1
            else:
                return _RARE_DISPOSITION
            if count > 3:
                code = buf[p]
                p += 1
                if code == 0x41:
                    settled = True
                elif code != 0x42 and code != 0x40:
                    return _RARE_DISPOSITION
                if count > 4:
                    code = buf[p]
                    if code == 0x40:
                        p += 1
                    elif code == 0x00 and buf[p + 1] == 0x53 and (buf[p + 2] == 0x24 or buf[p + 2] == 0x26):
                        state = buf[p + 2]
                        code = buf[p + 3]
                        if code == 0x45:
                            p += 4
                        elif code == 0xC0 and buf[p + 4] == 1 and buf[p + 5] == 0:
                            p += 6
                        else:
                            return _RARE_DISPOSITION
                    else:
                        return _RARE_DISPOSITION
                    if count > 5:
                        code = buf[p]
                        p += 1
                        if code != 0x40 and code != 0x41 and code != 0x42:
                            return _RARE_DISPOSITION
        if p != stop:
            return _RARE_DISPOSITION
        return role, first, last, settled, state
    except (IndexError, struct.error):
        return _RARE_DISPOSITION


def decode_flow(buf: bytes, pos: int, end: int) -> list[int] | None:
    """Decode the list of a Flow whose constructor is at `pos`.

    Returns next-incoming-id, incoming-window, next-outgoing-id, outgoing-window, handle, delivery-count, link-credit,
    available, drain, echo, with -1 for what is absent and 0 or 1 for the last two; None when the table decoder has to
    be asked (properties, unusual encodings, errors).
    """
    try:
        code = buf[pos]
        if code == 0xC0:
            stop = pos + 2 + buf[pos + 1]
            count = buf[pos + 2]
            p = pos + 3
        elif code == 0xD0:
            stop = pos + 5 + _unpack_uint(buf, pos + 1)[0]
            count = _unpack_uint(buf, pos + 5)[0]
            p = pos + 9
        else:
            return None
        if stop > end or count < 4 or count > 11:
            return None
        fields = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0]
        for index in range(count if count < 8 else 8):
            code = buf[p]
            if code == 0x52:
                fields[index] = buf[p + 1]
                p += 2
            elif code == 0x70:
                fields[index] = _unpack_uint(buf, p + 1)[0]
                p += 5
            elif code == 0x43:
                fields[index] = 0
                p += 1
            elif code == 0x40:
                p += 1
            else:
                return None
        for index in range(8, count if count < 10 else 10):
            code = buf[p]
            p += 1
            if code == 0x41:
                fields[index] = 1
            elif code != 0x42 and code != 0x40:
                return None
        if count == 11:
            if buf[p] != 0x40:
                return None
            p += 1
        if p != stop or fields[1] < 0 or fields[2] < 0 or fields[3] < 0:
            return None
        return fields
    except (IndexError, struct.error):
        return None


def encode_uint(value: int) -> bytes:
    """The shortest encoding of a uint."""
    if value == 0:
        return b"\x43"
    if value < 256:
        return bytes((0x52, value))
    return b"\x70" + pack_uint(value)


def encode_disposition(channel: int, role: bool, first: int, last: int, settled: bool, state: bytes) -> bytes:
    """A Disposition frame; `state` is the encoded delivery state, empty for none."""
    fields = encode_uint(first)
    count = 3
    if state:
        fields += (encode_uint(last) if last != first else b"\x40") + (b"\x41" if settled else b"\x42") + state
        count = 5
    elif settled:
        fields += (encode_uint(last) if last != first else b"\x40") + b"\x41"
        count = 4
    else:
        fields += encode_uint(last)
    return _list_frame(channel, 0x15, count, (b"\x41" if role else b"\x42") + fields)


# Size, data offset and type, channel; descriptor, list8 of five, role receiver; first, last; settled, accepted.
_pack_accepted: Final = struct.Struct(">IHH8sIBI5s").pack
_pack_accepted_one: Final = struct.Struct(">IHH8sI6s").pack


def encode_accepted(channel: int, first: int, last: int) -> bytes:
    """The Disposition frame by which a receiver settles deliveries as accepted: nearly all that are written."""
    if first == last:
        return _pack_accepted_one(
            26, 0x0200, channel, b"\x00\x53\x15\xc0\x0d\x05\x41\x70", first, b"\x40\x41\x00\x53\x24\x45"
        )
    return _pack_accepted(
        30, 0x0200, channel, b"\x00\x53\x15\xc0\x11\x05\x41\x70", first, 0x70, last, b"\x41\x00\x53\x24\x45"
    )


def encode_flow(
    channel: int,
    next_incoming_id: int,
    incoming_window: int,
    next_outgoing_id: int,
    outgoing_window: int,
    handle: int = -1,
    delivery_count: int = -1,
    link_credit: int = -1,
    available: int = -1,
    drain: bool = False,
    echo: bool = False,
) -> bytes:
    """A Flow frame; -1 leaves a field out."""
    session = (
        (encode_uint(next_incoming_id) if next_incoming_id >= 0 else b"\x40")
        + encode_uint(incoming_window)
        + encode_uint(next_outgoing_id)
        + encode_uint(outgoing_window)
    )
    if handle < 0:
        if echo:
            return _list_frame(channel, 0x13, 10, session + b"\x40\x40\x40\x40\x42\x41")
        return _list_frame(channel, 0x13, 4, session)
    link = (
        encode_uint(handle)
        + (encode_uint(delivery_count) if delivery_count >= 0 else b"\x40")
        + (encode_uint(link_credit) if link_credit >= 0 else b"\x40")
    )
    if not drain and not echo and available < 0:
        return _list_frame(channel, 0x13, 7, session + link)
    link += encode_uint(available) if available >= 0 else b"\x40"
    link += b"\x41" if drain else b"\x42"
    if not echo:
        return _list_frame(channel, 0x13, 9, session + link)
    return _list_frame(channel, 0x13, 10, session + link + b"\x41")


_LIST8_FRAME: Final = struct.Struct(">IBBHBBBBBB")
_LIST32_FRAME: Final = struct.Struct(">IBBHBBBBII")


def _list_frame(channel: int, descriptor: int, count: int, fields: bytes) -> bytes:
    length = len(fields)
    if length < 255:
        return _LIST8_FRAME.pack(length + 14, 2, 0, channel, 0, 0x53, descriptor, 0xC0, length + 1, count) + fields
    return _LIST32_FRAME.pack(length + 20, 2, 0, channel, 0, 0x53, descriptor, 0xD0, length + 4, count) + fields


def transfer_prefix(channel: int, handle: int) -> bytes:
    """The constant part of the usual Transfer of a link: from the data offset to the constructor of delivery-id.

    Behind it come delivery-id (4 octets), `a0 04`, the same four octets as delivery-tag, message-format and settled.
    """
    encoded = encode_uint(handle)
    return (
        b"\x02\x00"
        + channel.to_bytes(2, "big")
        + b"\x00\x53\x14\xc0"
        + bytes((1 + len(encoded) + 5 + 6 + 1 + 1, 5))
        + encoded
        + b"\x70"
    )


def encode_transfer(
    channel: int,
    handle: int,
    delivery_id: int,
    tag: bytes | None,
    message_format: int,
    settled: bool,
    more: bool,
    aborted: bool,
    payload_length: int,
) -> bytes:
    """The header and performative of any Transfer frame; the payload follows it on the wire.

    `delivery_id`, `message_format` of -1 and a `tag` of None are left out, as they may be after the first frame.
    """
    fields = encode_uint(handle)
    fields += b"\x70" + pack_uint(delivery_id) if delivery_id >= 0 else b"\x40"
    if tag is None:
        fields += b"\x40"
    elif len(tag) < 256:
        fields += bytes((0xA0, len(tag))) + tag
    else:
        fields += b"\xb0" + pack_uint(len(tag)) + tag
    fields += encode_uint(message_format) if message_format >= 0 else b"\x40"
    fields += b"\x41" if settled else b"\x42"
    count = 5
    if aborted:
        fields += b"\x42\x40\x40\x40\x41"
        count = 10
    elif more:
        fields += b"\x41"
        count = 6
    frame = _list_frame(channel, 0x14, count, fields)
    return pack_uint(len(frame) + payload_length) + frame[4:]
