"""What comes before the first AMQP frame: protocol headers (2.2) and the SASL layer's frames (5.3.1).

Responsible for which header or frame may come next, and for the answer to a wrong one. The exchange of a mechanism is
`sasl.py`; Open and everything after it is `connection.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from van.amqp.composite import Composite, decode_composite
from van.amqp.errors import AmqpConnectionError, ErrorCondition
from van.amqp.framing import (
    AMQP_HEADER,
    FRAME_HEADER,
    FRAME_TYPE_SASL,
    HEADER_LENGTH,
    MIN_MAX_FRAME_SIZE,
    SASL_HEADER,
    describe_header,
    encode_frame,
    frame_error,
)
from van.amqp.sasl import SaslClient, SaslServer

_unpack_header: Final[Callable[[bytes, int], tuple[int, int, int, int]]] = FRAME_HEADER.unpack_from


class Expecting(enum.Enum):
    """What the peer may send next."""

    HEADER = "a protocol header"
    SASL = "SASL frames"
    AMQP_HEADER = "the AMQP header after SASL"
    FRAMES = "AMQP frames"


class Refusal:
    """The handshake has failed: nothing more is read, what `out` holds is written, and the stream ends."""

    __slots__ = ("by_peer", "condition", "description")

    def __init__(self, by_peer: bool, condition: str, description: str) -> None:
        self.by_peer = by_peer
        self.condition = condition
        self.description = description


class Handshake:
    """One side of the handshake.

    `out` holds what is to be written, in order. `header_sent` tells that our AMQP header is among what was written, so
    that frames may follow it. `done` means that AMQP frames come next, `refusal` that none will.
    """

    __slots__ = ("_accepting", "_expecting", "_required", "_sasl", "header_sent", "out", "refusal")

    def __init__(self, accepting: bool, sasl: SaslServer | SaslClient | None, sasl_required: bool) -> None:
        self._accepting = accepting
        self._sasl = sasl
        # Who begins with SASL will not do without it; who accepts may take a bare AMQP header for an anonymous peer.
        self._required = (sasl is not None and not accepting) or sasl_required
        self._expecting = Expecting.HEADER
        self.out: list[bytes | memoryview] = []
        self.header_sent = False
        self.refusal: Refusal | None = None
        if not accepting:
            if sasl is not None:
                self.out.append(SASL_HEADER)
            else:
                self._send_amqp_header()

    @property
    def done(self) -> bool:
        """Whether AMQP frames come next."""
        return self._expecting is Expecting.FRAMES

    def receive(self, data: bytes, pos: int, end: int) -> int:
        """Take a header or a SASL frame, with at least eight octets at `pos`.

        Returns how many octets it took, 0 when the frame is not whole. Raises `AmqpError` for what is not a SASL frame.
        """
        if self._expecting is not Expecting.SASL:
            self._receive_header(data[pos : pos + HEADER_LENGTH])
            return HEADER_LENGTH
        size, data_offset, frame_type, _ = _unpack_header(data, pos)
        if size > MIN_MAX_FRAME_SIZE or data_offset < 2 or data_offset << 2 > size or frame_type != FRAME_TYPE_SASL:
            raise frame_error(size, MIN_MAX_FRAME_SIZE, data_offset, frame_type, self._expecting.value)
        if pos + size > end:
            return 0
        body = pos + (data_offset << 2)
        if body < pos + size:
            self._receive_sasl(decode_composite(data, body, pos + size)[0])
        return size

    def _receive_header(self, header: bytes) -> None:
        first = self._expecting is Expecting.HEADER
        if header == AMQP_HEADER:
            if first and self._required:
                self._refuse(SASL_HEADER, "SASL is required here, and the peer began without it")
                return
            if not self.header_sent:
                self._send_amqp_header()
            self._expecting = Expecting.FRAMES
        elif header == SASL_HEADER and self._sasl is not None and first:
            self._expecting = Expecting.SASL
            if self._accepting:
                self.out.append(SASL_HEADER)
            self._write(self._sasl.start())
        else:
            expected = SASL_HEADER if self._sasl is not None and first else AMQP_HEADER
            self._refuse(expected, f"the peer sent {describe_header(header)} where an AMQP header belongs")

    def _refuse(self, expected: bytes, description: str) -> None:
        """2.2: answer a header that is not to be had with one that is, and end the stream."""
        if not self.header_sent:
            self.out.append(expected)
        self.refusal = Refusal(False, ErrorCondition.FRAMING_ERROR, description)

    def _receive_sasl(self, performative: object) -> None:
        sasl = self._sasl
        assert sasl is not None
        if not isinstance(performative, Composite):
            raise AmqpConnectionError(ErrorCondition.NOT_ALLOWED, "a SASL frame with an unknown performative")
        self._write(sasl.receive(performative))
        if not sasl.done:
            return
        if not sasl.succeeded:
            reason = sasl.error or "authentication failed"
            self.refusal = Refusal(not self._accepting, ErrorCondition.UNAUTHORIZED_ACCESS, reason)
            return
        self._expecting = Expecting.AMQP_HEADER
        if not self._accepting:
            self._send_amqp_header()

    def _write(self, performatives: list[Composite]) -> None:
        for performative in performatives:
            self.out.append(encode_frame(0, performative.encode(), FRAME_TYPE_SASL))

    def _send_amqp_header(self) -> None:
        self.out.append(AMQP_HEADER)
        self.header_sent = True
