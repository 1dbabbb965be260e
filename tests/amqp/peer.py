"""A scripted peer: it writes hand-made frames to an engine and reads what comes back as performatives.

`send` takes performatives, `(performative, payload)` pairs, and raw octets that are written as they are. `take` returns
the performatives that the engine has written since, `frames` the same with channel and payload.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.amqp.pair import Endpoint
from van.amqp.composite import Composite, decode_composite
from van.amqp.framing import AMQP_HEADER, FRAME_HEADER, FRAME_TYPE_SASL, HEADER_LENGTH, encode_frame
from van.amqp.performatives import Attach, Begin, Close, Detach, End, Flow, Open, Transfer
from van.amqp.terminus import Source, Target

Sent = Composite | tuple[Composite, bytes] | bytes


class Frame(NamedTuple):
    """One frame that the engine wrote: `body` is a performative, None for an empty frame, octets for a header."""

    channel: int
    body: Any
    payload: bytes


def decode_frames(data: bytes) -> list[Frame]:
    """Take written octets apart. A frame that is not whole or not understood fails the scene."""
    frames = []
    pos = 0
    while pos < len(data):
        if data[pos : pos + 4] == b"AMQP":
            frames.append(Frame(-1, data[pos : pos + HEADER_LENGTH], b""))
            pos += HEADER_LENGTH
            continue
        size, offset, kind, channel = FRAME_HEADER.unpack_from(data, pos)
        stop = pos + size
        assert stop <= len(data), "a frame that is not whole"
        body = pos + offset * 4
        pos = stop
        if body == stop:
            frames.append(Frame(channel, None, b""))
            continue
        performative, payload = decode_composite(data, body, stop)
        assert kind == FRAME_TYPE_SASL or payload == stop or isinstance(performative, Transfer)
        frames.append(Frame(channel, performative, data[payload:stop]))
    return frames


class Peer:
    """The other side of `engine`.

    octets: hand over one octet at a time.
    """

    def __init__(self, engine: Endpoint | None = None, *, octets: bool = False) -> None:
        self.engine = engine if engine is not None else Endpoint()
        self.octets = octets
        self.now = 0.0

    def send(self, *frames: Sent, channel: int = 0) -> Peer:
        """Write frames on a channel, all in one batch (or octet by octet)."""
        data = b"".join(self._encode(frame, channel) for frame in frames)
        step = 1 if self.octets else max(1, len(data))
        for start in range(0, len(data), step):
            self.engine.receive(data[start : start + step], self.now)
        return self

    def _encode(self, frame: Sent, channel: int) -> bytes:
        if isinstance(frame, bytes):
            return frame
        if isinstance(frame, tuple):
            return encode_frame(channel, frame[0].encode() + frame[1])
        return encode_frame(channel, frame.encode())

    def frames(self) -> list[Frame]:
        """What the engine has written since the last look."""
        return decode_frames(self.engine.take())

    def take(self) -> list[Any]:
        """The bodies of these frames: performatives, None for an empty frame, octets for a protocol header."""
        return [frame.body for frame in self.frames()]

    def one(self, kind: type[Any]) -> Any:
        """The only performative of this kind among what the engine has written since the last look."""
        found = [body for body in self.take() if isinstance(body, kind)]
        assert len(found) == 1, found
        return found[0]

    # -- usual beginnings ----------------------------------------------------------------------------------------

    def open(self, **fields: Any) -> Peer:
        """Header and Open; what the engine answers is dropped."""
        self.send(AMQP_HEADER, open_(**fields))
        self.take()
        return self

    def begin(self, channel: int = 0, **fields: Any) -> Peer:
        """A session of the peer's; what the engine answers is dropped."""
        self.send(begin(**fields), channel=channel)
        self.take()
        return self

    def attach(self, performative: Attach, channel: int = 0) -> Peer:
        """A link of the peer's; what the engine answers is dropped."""
        self.send(performative, channel=channel)
        self.take()
        return self


def open_(**fields: Any) -> Open:
    """An Open with what every scene needs."""
    fields.setdefault("container_id", "peer")
    return Open(**fields)


def begin(**fields: Any) -> Begin:
    """A Begin with wide windows."""
    return Begin(**({"next_outgoing_id": 0, "incoming_window": 2048, "outgoing_window": 2048} | fields))


def sending(name: str = "link", handle: int = 0, **fields: Any) -> Attach:
    """The Attach of a peer that sends."""
    defaults: dict[str, Any] = {"source": Source(), "target": Target(address="b"), "initial_delivery_count": 0}
    return Attach(name=name, handle=handle, role=False, **(defaults | fields))


def receiving(name: str = "link", handle: int = 0, **fields: Any) -> Attach:
    """The Attach of a peer that receives."""
    defaults: dict[str, Any] = {"source": Source(address="a"), "target": Target()}
    return Attach(name=name, handle=handle, role=True, **(defaults | fields))


def flow(**fields: Any) -> Flow:
    """A Flow with wide windows; without a handle it is the session's."""
    defaults: dict[str, Any] = {
        "next_incoming_id": 0,
        "incoming_window": 2048,
        "next_outgoing_id": 0,
        "outgoing_window": 2048,
    }
    return Flow(**(defaults | fields))


def transfer(delivery_id: int = 0, payload: bytes = b"x", **fields: Any) -> tuple[Transfer, bytes]:
    """The first (or only) frame of a delivery."""
    defaults: dict[str, Any] = {
        "handle": 0,
        "delivery_id": delivery_id,
        "delivery_tag": delivery_id.to_bytes(4, "big"),
        "message_format": 0,
    }
    return Transfer(**(defaults | fields)), payload


def continued(payload: bytes = b"x", **fields: Any) -> tuple[Transfer, bytes]:
    """A later frame of a delivery."""
    return Transfer(**({"handle": 0} | fields)), payload


def condition(performative: Close | End | Detach) -> str:
    """The condition that a Close, End or Detach carries; empty for none."""
    return str(performative.error.condition) if performative.error is not None else ""


def sender_to(engine: Endpoint | None = None, *, octets: bool = False, **fields: Any) -> Peer:
    """A peer with a session and a link on which it sends."""
    return Peer(engine, octets=octets).open().begin().attach(sending(**fields))


def receiver_from(engine: Endpoint | None = None, *, octets: bool = False, **fields: Any) -> Peer:
    """A peer with a session and a link on which it receives."""
    return Peer(engine, octets=octets).open().begin().attach(receiving(**fields))
