"""What an engine may write, whatever it was sent: frames that are whole, in an order that the specification allows.

`Auditor.take` reads written octets and raises `AssertionError` at the first frame that should not be there. It knows
nothing of the engine: channels, handles and ids are followed from the frames alone.
"""

from __future__ import annotations

import struct

from van.amqp.composite import Composite
from van.amqp.performatives import (
    Attach,
    Begin,
    Close,
    Detach,
    Disposition,
    End,
    Flow,
    Open,
    Transfer,
    decode_performative,
)
from van.amqp.sasl_frames import SaslOutcome, decode_sasl_frame

AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
SASL_HEADER = b"AMQP\x03\x01\x00\x00"


class Written:
    """One session of the engine's, as its frames draw it."""

    def __init__(self, begin: Begin) -> None:
        self.attached: dict[int, Attach] = {}
        self.names: dict[tuple[str, bool], int] = {}
        self.next_delivery_id = begin.next_outgoing_id
        self.next_transfer_id = begin.next_outgoing_id
        # Handle -> delivery-id of a delivery whose end is not written.
        self.current: dict[int, int] = {}


class Auditor:
    """Follows what one engine writes. `frames` are the performatives so far, None for empty frames."""

    def __init__(self) -> None:
        self.rest = b""
        self.headers: list[bytes] = []
        self.frames: list[Composite | None] = []
        self.sessions: dict[int, Written] = {}
        self.open: Open | None = None
        self.close: Close | None = None
        self.max_frame_size = 0xFFFFFFFF

    def take(self, octets: bytes) -> None:
        """Read on. The octets of a frame may come in pieces."""
        data = self.rest + octets
        pos = 0
        while len(data) - pos >= 8:
            if data[pos : pos + 4] == b"AMQP":
                self._header(data[pos : pos + 8])
                pos += 8
                continue
            size, offset, kind, channel = struct.unpack_from(">IBBH", data, pos)
            assert size >= 8, "a frame smaller than its header"
            assert offset == 2, "an extended header, which nobody asked for"
            if len(data) - pos < size:
                break
            self._frame(data[pos + 8 : pos + size], size, kind, channel)
            pos += size
        self.rest = data[pos:]

    def _header(self, header: bytes) -> None:
        assert header in {AMQP_HEADER, SASL_HEADER}, "an unknown protocol header"
        assert header not in self.headers, "the same header twice"
        assert self.headers != [AMQP_HEADER], "a header behind that of AMQP"
        self.headers.append(header)

    def _frame(self, body: bytes, size: int, kind: int, channel: int) -> None:
        assert self.headers, "a frame in front of every header"
        if kind == 1:
            assert self.headers == [SASL_HEADER], "a SASL frame where none belongs"
            assert size <= 512, "a SASL frame of more than 512 octets"
            frame, end = decode_sasl_frame(body, 0, len(body))
            assert end == len(body)
            assert not self.frames or not isinstance(self.frames[-1], SaslOutcome), "a SASL frame behind the outcome"
            self.frames.append(frame)
            return
        assert kind == 0
        assert self.headers[-1] == AMQP_HEADER, "an AMQP frame in front of its header"
        assert self.close is None, "a frame behind close"
        if not body:
            assert self.open is not None, "an empty frame in front of open"
            self.frames.append(None)
            return
        performative, end = decode_performative(body, 0, len(body))
        assert end == len(body) or isinstance(performative, Transfer), "octets behind a performative"
        if isinstance(performative, Open):
            assert self.open is None, "a second open"
            self.open = performative
        else:
            assert size <= self.max_frame_size, "a frame beyond the peer's max-frame-size"
            assert self.open is not None, "a frame in front of open"
            if isinstance(performative, Close):
                self.close = performative
            elif isinstance(performative, Begin):
                assert channel not in self.sessions, "begin on a channel in use"
                self.sessions[channel] = Written(performative)
            else:
                assert channel in self.sessions, "a frame on a channel without session"
                self._in_session(self.sessions[channel], performative, channel)
        self.frames.append(performative)

    def _in_session(self, session: Written, performative: Composite, channel: int) -> None:
        if isinstance(performative, End):
            del self.sessions[channel]
        elif isinstance(performative, Attach):
            assert performative.handle not in session.attached, "attach on a handle in use"
            session.attached[performative.handle] = performative
        elif isinstance(performative, Detach):
            assert performative.handle in session.attached, "detach of a handle that is not attached"
            del session.attached[performative.handle]
            session.current.pop(performative.handle, None)
        elif isinstance(performative, Flow):
            if performative.handle is not None:
                assert performative.handle in session.attached, "flow on a handle that is not attached"
            assert performative.next_outgoing_id == session.next_transfer_id, "next-outgoing-id is not what was sent"
        elif isinstance(performative, Transfer):
            self._transfer(session, performative)
        else:
            assert isinstance(performative, Disposition)

    def _transfer(self, session: Written, transfer: Transfer) -> None:
        assert transfer.handle in session.attached, "transfer on a handle that is not attached"
        assert not session.attached[transfer.handle].role, "transfer on a link that receives"
        session.next_transfer_id = (session.next_transfer_id + 1) & 0xFFFFFFFF
        current = session.current.get(transfer.handle)
        if current is None:
            assert transfer.delivery_id == session.next_delivery_id, "a delivery-id out of order"
            assert transfer.delivery_tag is not None, "a first transfer without tag"
            session.next_delivery_id = (session.next_delivery_id + 1) & 0xFFFFFFFF
            session.current[transfer.handle] = transfer.delivery_id
        else:
            assert transfer.delivery_id in {None, current}, "a delivery inside another"
        if not transfer.more or transfer.aborted:
            del session.current[transfer.handle]
