"""The bodies of SASL frames (5.3.3), as tables. The exchange itself is in `sasl.py`."""

from __future__ import annotations

from typing import ClassVar, Final

from van.amqp.composite import (
    BINARY,
    SASL_CODE,
    STRING,
    SYMBOL,
    Composite,
    Field,
    decode_composite,
    register,
)
from van.amqp.errors import DecodeError
from van.amqp.types import Described

# 5.3.3.6
SASL_CODE_OK: Final = 0
SASL_CODE_AUTH: Final = 1
SASL_CODE_SYS: Final = 2
SASL_CODE_SYS_PERM: Final = 3
SASL_CODE_SYS_TEMP: Final = 4


class SaslMechanisms(Composite):
    """The mechanisms that the server offers (5.3.3.1), the preferred first.

    Always written as an array, as every other server does: a client that knows nothing else finds it.
    """

    __slots__ = ("sasl_server_mechanisms",)

    DESCRIPTOR: ClassVar[int] = 0x40
    NAME: ClassVar[str] = "amqp:sasl-mechanisms:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("sasl-frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("sasl-server-mechanisms", SYMBOL, mandatory=True, multiple=True, always_array=True),
    )

    def __init__(
        self,
        *,
        sasl_server_mechanisms: list[str],
    ) -> None:
        self.sasl_server_mechanisms = sasl_server_mechanisms


class SaslInit(Composite):
    """The mechanism that the client chooses (5.3.3.2)."""

    __slots__ = ("hostname", "initial_response", "mechanism")

    DESCRIPTOR: ClassVar[int] = 0x41
    NAME: ClassVar[str] = "amqp:sasl-init:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("sasl-frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("mechanism", SYMBOL, mandatory=True),
        Field("initial-response", BINARY),
        Field("hostname", STRING),
    )

    def __init__(
        self,
        *,
        mechanism: str,
        initial_response: bytes | None = None,
        hostname: str | None = None,
    ) -> None:
        self.mechanism = mechanism
        self.initial_response = initial_response
        self.hostname = hostname


class SaslChallenge(Composite):
    """Security data from the server (5.3.3.3)."""

    __slots__ = ("challenge",)

    DESCRIPTOR: ClassVar[int] = 0x42
    NAME: ClassVar[str] = "amqp:sasl-challenge:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("sasl-frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (Field("challenge", BINARY, mandatory=True),)

    def __init__(
        self,
        *,
        challenge: bytes,
    ) -> None:
        self.challenge = challenge


class SaslResponse(Composite):
    """Security data from the client (5.3.3.4)."""

    __slots__ = ("response",)

    DESCRIPTOR: ClassVar[int] = 0x43
    NAME: ClassVar[str] = "amqp:sasl-response:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("sasl-frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (Field("response", BINARY, mandatory=True),)

    def __init__(
        self,
        *,
        response: bytes,
    ) -> None:
        self.response = response


class SaslOutcome(Composite):
    """How the exchange ended (5.3.3.6)."""

    __slots__ = ("additional_data", "code")

    DESCRIPTOR: ClassVar[int] = 0x44
    NAME: ClassVar[str] = "amqp:sasl-outcome:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("sasl-frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("code", SASL_CODE, mandatory=True),
        Field("additional-data", BINARY),
    )

    def __init__(
        self,
        *,
        code: int,
        additional_data: bytes | None = None,
    ) -> None:
        self.code = code
        self.additional_data = additional_data


register(SaslMechanisms, SaslInit, SaslChallenge, SaslResponse, SaslOutcome)

SaslFrame = SaslMechanisms | SaslInit | SaslChallenge | SaslResponse | SaslOutcome


def decode_sasl_frame(buf: bytes, pos: int, end: int) -> tuple[SaslFrame, int]:
    """Decode the body of a SASL frame at `pos`; return it and the position behind it. Raises DecodeError."""
    frame, pos = decode_composite(buf, pos, end)
    if not isinstance(frame, (SaslMechanisms, SaslInit, SaslChallenge, SaslResponse, SaslOutcome)):
        what = frame.descriptor if isinstance(frame, Described) else frame.NAME
        raise DecodeError(f"{what} is no SASL frame")
    return frame, pos
