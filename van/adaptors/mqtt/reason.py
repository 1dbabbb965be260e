"""Reason codes of MQTT 5 (2.4), the return codes of MQTT 3.1.1 that stand for them, and the error that carries one.

The codec raises `MqttError` for whatever a peer sends; what is then said to the peer is decided in `connection.py`.
"""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0x00
NORMAL_DISCONNECTION: Final = 0x00
GRANTED_QOS_0: Final = 0x00
GRANTED_QOS_1: Final = 0x01
GRANTED_QOS_2: Final = 0x02
DISCONNECT_WITH_WILL: Final = 0x04
NO_MATCHING_SUBSCRIBERS: Final = 0x10
NO_SUBSCRIPTION_EXISTED: Final = 0x11
CONTINUE_AUTHENTICATION: Final = 0x18
RE_AUTHENTICATE: Final = 0x19
UNSPECIFIED_ERROR: Final = 0x80
MALFORMED_PACKET: Final = 0x81
PROTOCOL_ERROR: Final = 0x82
IMPLEMENTATION_SPECIFIC_ERROR: Final = 0x83
UNSUPPORTED_PROTOCOL_VERSION: Final = 0x84
CLIENT_IDENTIFIER_NOT_VALID: Final = 0x85
BAD_USER_NAME_OR_PASSWORD: Final = 0x86
NOT_AUTHORIZED: Final = 0x87
SERVER_UNAVAILABLE: Final = 0x88
SERVER_BUSY: Final = 0x89
BANNED: Final = 0x8A
SERVER_SHUTTING_DOWN: Final = 0x8B
BAD_AUTHENTICATION_METHOD: Final = 0x8C
KEEP_ALIVE_TIMEOUT: Final = 0x8D
SESSION_TAKEN_OVER: Final = 0x8E
TOPIC_FILTER_INVALID: Final = 0x8F
TOPIC_NAME_INVALID: Final = 0x90
PACKET_IDENTIFIER_IN_USE: Final = 0x91
PACKET_IDENTIFIER_NOT_FOUND: Final = 0x92
RECEIVE_MAXIMUM_EXCEEDED: Final = 0x93
TOPIC_ALIAS_INVALID: Final = 0x94
PACKET_TOO_LARGE: Final = 0x95
MESSAGE_RATE_TOO_HIGH: Final = 0x96
QUOTA_EXCEEDED: Final = 0x97
ADMINISTRATIVE_ACTION: Final = 0x98
PAYLOAD_FORMAT_INVALID: Final = 0x99
RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B
USE_ANOTHER_SERVER: Final = 0x9C
SERVER_MOVED: Final = 0x9D
SHARED_SUBSCRIPTIONS_NOT_SUPPORTED: Final = 0x9E
CONNECTION_RATE_EXCEEDED: Final = 0x9F
MAXIMUM_CONNECT_TIME: Final = 0xA0
SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED: Final = 0xA1
WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED: Final = 0xA2

# From here on a code tells of a failure (2.4).
FAILURE: Final = 0x80

# MQTT 3.1.1, 3.2.2.3: the return codes of CONNACK.
REFUSED_PROTOCOL_VERSION: Final = 1
REFUSED_IDENTIFIER: Final = 2
REFUSED_UNAVAILABLE: Final = 3
REFUSED_USER_NAME_OR_PASSWORD: Final = 4
REFUSED_NOT_AUTHORIZED: Final = 5

_RETURN_CODES: Final[dict[int, int]] = {
    SUCCESS: 0,
    UNSUPPORTED_PROTOCOL_VERSION: REFUSED_PROTOCOL_VERSION,
    CLIENT_IDENTIFIER_NOT_VALID: REFUSED_IDENTIFIER,
    SERVER_UNAVAILABLE: REFUSED_UNAVAILABLE,
    SERVER_BUSY: REFUSED_UNAVAILABLE,
    SERVER_SHUTTING_DOWN: REFUSED_UNAVAILABLE,
    QUOTA_EXCEEDED: REFUSED_UNAVAILABLE,
    CONNECTION_RATE_EXCEEDED: REFUSED_UNAVAILABLE,
    BAD_USER_NAME_OR_PASSWORD: REFUSED_USER_NAME_OR_PASSWORD,
    NOT_AUTHORIZED: REFUSED_NOT_AUTHORIZED,
    BANNED: REFUSED_NOT_AUTHORIZED,
}


def return_code(reason: int) -> int | None:
    """The return code of a 3.1.1 CONNACK that stands for `reason`; None where the connection is closed without one."""
    return _RETURN_CODES.get(reason)


class MqttError(Exception):
    """Something that a peer sent is not allowed. `reason` is the code of MQTT 5, `description` says what it was."""

    def __init__(self, reason: int, description: str) -> None:
        super().__init__(f"0x{reason:02x}: {description}")
        self.reason = reason
        self.description = description


def malformed(description: str) -> MqttError:
    """The error for octets that are no packet (1.2, Malformed Packet)."""
    return MqttError(MALFORMED_PACKET, description)


def protocol_error(description: str) -> MqttError:
    """The error for a packet that may not come, or not like this (1.2, Protocol Error)."""
    return MqttError(PROTOCOL_ERROR, description)
