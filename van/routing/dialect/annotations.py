"""Router annotations: the section that routers put in front of a message for one another.

    descriptor 0x534B50522D2D5241, list of flags, to-override, ingress, trace, and perhaps the ingress mesh

It stands before all sections of the message and is whole in a delivery's first frame, so that routers read and replace
it without looking at anything behind it.
"""

from __future__ import annotations

import struct
from typing import Final

from van.amqp.codec import decode_value
from van.amqp.errors import DecodeError

# Flags. Those of the deployed routers, which pass on what they do not know:
STREAMING: Final = 0x01
RESEND_RELEASED: Final = 0x02
# ...its receiver acknowledges octets, so that routers on its way need not stop its sender when much of it waits there.
WINDOWED: Final = 0x04
# Ours: the sender had settled; it travels unsettled so that credit works from end to end, and leaves settled.
PRESETTLED: Final = 0x10000
# Ours, from another process of this router to its management node: whoever has sent it may change the router.
MAY_CHANGE: Final = 0x20000

PREFIX: Final = b"\x00\x80SKPR--RA"
_PREFIX_LENGTH: Final = len(PREFIX)
AREA: Final = "0"
# Longer texts and traces than any network makes; beyond them a section is refused.
MAX_SECTION: Final = 65536

_unpack_uint: Final = struct.Struct(">I").unpack_from
_pack_uint: Final = struct.Struct(">I").pack
_pack_2uint: Final = struct.Struct(">II").pack


class Annotations:
    """What one section says.

    `flags` as above; `to_override` is where the message goes, whatever its properties say; `ingress` is the id of the
    router where it came into the network, `trace` the ids of the routers that it passed, oldest first, as `area/id`;
    `mesh` names the mesh of edge routers that it came from. `key` (the address key of `to_override`), `origin` (the id
    in `ingress`), `hops` (those in `trace`) and `forwarded` (the section as this router sends it on) are worked out
    once by the router that owns the object: the same section comes with many messages.
    """

    __slots__ = (
        "flags",
        "forwarded",
        "hops",
        "in_flux",
        "ingress",
        "key",
        "mesh",
        "origin",
        "presettled",
        "streaming",
        "to_override",
        "trace",
    )

    def __init__(
        self,
        flags: int = 0,
        to_override: str | None = None,
        ingress: str | None = None,
        trace: tuple[str, ...] = (),
        mesh: str | None = None,
    ) -> None:
        self.flags = flags
        self.to_override = to_override
        self.ingress = ingress
        self.trace = trace
        self.mesh = mesh
        self.key: str | None = None
        self.origin = ""
        # The trace as plain ids.
        self.hops: tuple[str, ...] = ()
        self.forwarded = b""
        # The same without an ingress, and with a flag more, made when they are first needed.
        self.in_flux = b""
        self.streaming = b""
        self.presettled: Annotations | None = None

    def __repr__(self) -> str:
        """For logs and debuggers."""
        return f"Annotations({self.flags:#x}, {self.to_override!r}, {self.ingress!r}, {self.trace!r}, {self.mesh!r})"


def section_end(payload: bytes) -> int:
    """Where the section ends that `payload` begins with; 0 where there is none.

    Raises DecodeError where it is cut, too long, or no list.
    """
    if not payload.startswith(PREFIX):
        return 0
    try:
        code = payload[_PREFIX_LENGTH]
        if code == 0xD0:
            size: int = _unpack_uint(payload, _PREFIX_LENGTH + 1)[0]
            stop = _PREFIX_LENGTH + 5 + size
        elif code == 0xC0:
            stop = _PREFIX_LENGTH + 2 + payload[_PREFIX_LENGTH + 1]
        else:
            raise DecodeError("router annotations are no list of four")
    except (IndexError, struct.error):
        raise DecodeError("router annotations are cut short") from None
    if stop > len(payload) or stop > MAX_SECTION:
        raise DecodeError("router annotations are cut short, or too long")
    return stop


def decode_annotations(section: bytes) -> Annotations:
    """Decode a section, lenient as the deployed routers are. Raises DecodeError where it does not hold four items."""
    value, _ = decode_value(section, _PREFIX_LENGTH, len(section))
    if not isinstance(value, list) or len(value) < 4:
        raise DecodeError("router annotations: wrong list count")
    flags, to_override, ingress, trace = value[:4]
    mesh = value[4] if len(value) > 4 else None
    if not isinstance(flags, int) or isinstance(flags, bool) or flags < 0:
        raise DecodeError("router annotations: flags are no uint")
    for text in (to_override, ingress, mesh):
        if text is not None and not isinstance(text, str):
            raise DecodeError("router annotations: a text is no string")
    if trace is None:
        trace = []
    if not isinstance(trace, list) or not all(isinstance(hop, str) for hop in trace):
        raise DecodeError("router annotations: the trace is no list of strings")
    return Annotations(int(flags), to_override, ingress, tuple(trace), mesh)


def encode_annotations(
    flags: int, to_override: str | None, ingress: str | None, trace: tuple[str, ...], mesh: str | None = None
) -> bytes:
    """The octets of a section, as the deployed routers write them."""
    fields = (b"\x43" if flags == 0 else b"\x52" + bytes((flags,)) if flags < 256 else b"\x70" + _pack_uint(flags)) + (
        _text(to_override) + _text(ingress)
    )
    if trace:
        hops = b"".join([_text(hop) for hop in trace])
        fields += b"\xd0" + _pack_2uint(len(hops) + 4, len(trace)) + hops
    else:
        fields += b"\x45"
    count = 4
    if mesh is not None:
        fields += _text(mesh)
        count = 5
    return PREFIX + b"\xd0" + _pack_2uint(len(fields) + 4, count) + fields


def _text(text: str | None) -> bytes:
    if text is None:
        return b"\x40"
    octets = text.encode()
    size = len(octets)
    return b"\xa1" + bytes((size,)) + octets if size < 256 else b"\xb1" + _pack_uint(size) + octets


def router_of(node: str | None) -> str:
    """The router id in `area/id`, empty for none."""
    return node.partition("/")[2] if node else ""
