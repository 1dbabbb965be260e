"""Cuts the octets of a connection into packets (2.1), however they come.

A packet is kept until it is whole; its size is known from its first octets, and one that is too large is refused then.
"""

from __future__ import annotations

from typing import Final

from van.adaptors.mqtt.packets import MQTT_3_1_1, Packet, check_header, decode_packet
from van.adaptors.mqtt.reason import PACKET_TOO_LARGE, MqttError, malformed

# A Connect before anything is known of a client: a will of 64 KiB and what else a client has to say.
MAX_CONNECT_SIZE: Final = 131_072


class PacketStream:
    """What has come of a peer, and was not taken yet.

    `level` is the protocol level, which the Connect tells. `max_size` is what a packet may take, in octets with its
    fixed header. After an error nothing more can be read.
    """

    __slots__ = ("_buffer", "_pos", "_wanted", "level", "max_size")

    def __init__(self, level: int = MQTT_3_1_1, max_size: int = MAX_CONNECT_SIZE) -> None:
        self.level = level
        self.max_size = max_size
        self._buffer = bytearray()
        self._pos = 0
        # Nothing can be done before the buffer has this much.
        self._wanted = 2

    def feed(self, data: bytes) -> None:
        """Take octets as they came."""
        if self._pos:
            del self._buffer[: self._pos]
            self._wanted -= self._pos
            self._pos = 0
        self._buffer += data

    def waiting(self) -> int:
        """The octets that came and were not taken yet."""
        return len(self._buffer) - self._pos

    def next_packet(self) -> Packet | None:
        """The next packet, None while it is not whole. Raises MqttError."""
        buffer = self._buffer
        if len(buffer) < self._wanted:
            return None
        pos = self._pos
        length = 0
        shift = 0
        at = pos + 1
        while True:
            if at >= len(buffer):
                check_header(buffer[pos], self.level)
                self._wanted = len(buffer) + 1
                return None
            octet = buffer[at]
            at += 1
            length |= (octet & 0x7F) << shift
            if octet < 0x80:
                if octet == 0 and shift:
                    raise malformed("a remaining length that is longer than needed")
                break
            shift += 7
            if shift > 21:
                raise malformed("a remaining length of more than four octets")
        check_header(buffer[pos], self.level)
        end = at + length
        if end - pos > self.max_size:
            raise MqttError(PACKET_TOO_LARGE, f"a packet of {end - pos} octets, at most {self.max_size} are taken")
        if len(buffer) < end:
            self._wanted = end
            return None
        body = bytes(memoryview(buffer)[at:end])
        first = buffer[pos]
        self._pos = end
        self._wanted = end + 2
        return decode_packet(first, body, 0, length, self.level)
