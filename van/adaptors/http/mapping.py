"""How an HTTP request and its response are AMQP messages; the versions of HTTP and the router's links are elsewhere.

A request is a message to the address of a service, a response one to the `reply-to` of the request:

| | request | response |
|---|---|---|
| `to` | address of the service | `reply-to` of the request |
| `subject` | method | status code as text |
| `reply-to`, `correlation-id` | where the response goes, and what it has to say | the `correlation-id` |
| `http:fields` | header field lines, each `name: value` and CR LF | the same |
| `http:path`, `http:authority`, `http:scheme` | target of the request, host, scheme | |
| `http:version` | "1.0", "1.1" or "2", as it came | the same |
| `http:upgrade` | protocol that the client asks for | protocol that the server changes to, with status 101 |
| `http:te` | "trailers": the client takes trailers | |
| `http:window` | true: who asks says `received` while it reads the response | |
| body | data sections, any number | the same |
| footer | `http:trailers`: field lines behind the body | the same |

`http:` names are application properties; `http:trailers` is a key of the footer. Field lines are latin-1 text. Names
are in lower case. Fields that concern one connection only (RFC 9110, 7.6.1) are never part of a message.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from van.amqp.composite import encode_fields
from van.amqp.errors import DecodeError
from van.amqp.message import (
    AMQP_VALUE,
    DATA,
    FOOTER,
    Data,
    IncompleteMessageError,
    Message,
    MessageId,
    Properties,
    locate_section,
)

Fields: TypeAlias = list[tuple[bytes, bytes]]
"""Header fields or trailers in their order: name in lower case, and value."""

VERSION: Final = "http:version"
PATH: Final = "http:path"
AUTHORITY: Final = "http:authority"
SCHEME: Final = "http:scheme"
FIELDS: Final = "http:fields"
UPGRADE: Final = "http:upgrade"
TE: Final = "http:te"
ACKNOWLEDGES: Final = "http:window"
TRAILERS: Final = "http:trailers"

# Everything in front of the body is kept until it is whole; more of it than this is refused, in octets. Servers of the
# field take 8 to 64 KiB of header; what routers and applications add is small.
MAX_HEAD: Final = 262144
# Trailers are kept until they are whole; more of them is refused, in octets.
MAX_TRAILERS: Final = 65536

# RFC 9110, 7.6.1, and what became of it in practice. `host` is the authority; TE and its one value that matters to
# others is dealt with apart.
HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"host",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)
# RFC 9110, 5.6.2 and 5.5: a token, and a value without controls. Anything else in a message could become a line, or a
# request, of its own where it is written out.
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINES: Final = re.compile(rb"(?:" + _TOKEN + rb"+:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+")
_IS_TOKEN: Final = re.compile(_TOKEN)
_IS_TARGET: Final = re.compile(rb"[^\x00-\x20\x7f]+")
_IS_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")


class RequestHead:
    """What a request says in front of its body.

    method, target (what follows the method: a path with its query, or `*`), authority (host and port), scheme; fields:
    without those of one connection, and without `host`. version: what the client speaks, "1.0", "1.1" or "2". upgrade:
    the protocol that the client asks for, empty for none. trailers: whether the client takes trailers (TE).
    acknowledges: whether who asks says how far it has read the response.
    """

    __slots__ = (
        "acknowledges",
        "authority",
        "fields",
        "method",
        "scheme",
        "target",
        "trailers",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        fields: Fields,
        *,
        authority: bytes = b"",
        scheme: bytes = b"http",
        version: str = "1.1",
        upgrade: bytes = b"",
        trailers: bool = False,
        acknowledges: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.authority = authority
        self.scheme = scheme
        self.version = version
        self.upgrade = upgrade
        self.trailers = trailers
        self.acknowledges = acknowledges

    def __repr__(self) -> str:
        return f"RequestHead({self.method!r}, {self.target!r}, {self.fields!r}, authority={self.authority!r})"

    def field(self, name: bytes) -> bytes | None:
        """The value of the first field of that name (in lower case), None where there is none."""
        return find_field(self.fields, name)


class ResponseHead:
    """What a response says in front of its body: the final status code, fields without those of one connection.

    upgrade: with status 101, the protocol that both sides speak from now on: the body is then its octets.
    """

    __slots__ = ("fields", "status", "upgrade", "version")

    def __init__(self, status: int, fields: Fields, *, version: str = "1.1", upgrade: bytes = b"") -> None:
        self.status = status
        self.fields = fields
        self.version = version
        self.upgrade = upgrade

    def __repr__(self) -> str:
        return f"ResponseHead({self.status}, {self.fields!r})"

    def field(self, name: bytes) -> bytes | None:
        """The value of the first field of that name (in lower case), None where there is none."""
        return find_field(self.fields, name)


def find_field(fields: Fields, name: bytes) -> bytes | None:
    """The value of the first field of that name (in lower case), None where there is none."""
    for other, value in fields:
        if other == name:
            return value
    return None


def end_to_end(fields: Fields) -> Fields:
    """The fields that are not about one connection (RFC 9110, 7.6.1): those that `connection` names are left out, too.

    fields: names in lower case.
    """
    named: set[bytes] | None = None
    for name, value in fields:
        if name == b"connection":
            if named is None:
                named = set()
            named.update(option.strip().lower() for option in value.split(b","))
    if named is None:
        return [field for field in fields if field[0] not in HOP_BY_HOP]
    return [field for field in fields if field[0] not in HOP_BY_HOP and field[0] not in named]


def takes_trailers(fields: Fields) -> bool:
    """Whether the fields have TE with the value trailers (RFC 9110, 10.1.4)."""
    return any(name == b"te" and b"trailers" in value.lower() for name, value in fields)


# ------------------------------------------------------------------------------------------------------------ encoding


def encode_request(
    head: RequestHead, to: str, reply_to: str, correlation_id: str, body: bytes | None = None
) -> bytes:
    """The octets of a request in front of its body, or with `body` of all of a request with that body."""
    properties = {
        VERSION: head.version,
        PATH: head.target.decode("latin-1"),
        AUTHORITY: head.authority.decode("latin-1"),
        SCHEME: head.scheme.decode("latin-1"),
        FIELDS: join_fields(head.fields),
    }
    out = Message(
        properties=Properties(
            to=to, subject=head.method.decode("latin-1"), reply_to=reply_to, correlation_id=correlation_id
        ),
        application_properties=_with_flags(properties, head),
    ).encode()
    return out if body is None else out + data_section(body)


def _with_flags(properties: dict[str, str], head: RequestHead) -> dict[str, object]:
    result: dict[str, object] = {**properties}
    if head.upgrade:
        result[UPGRADE] = head.upgrade.decode("latin-1")
    if head.trailers:
        result[TE] = "trailers"
    if head.acknowledges:
        result[ACKNOWLEDGES] = True
    return result


def encode_response(
    head: ResponseHead, to: str, correlation_id: MessageId | None, body: bytes | None = None
) -> bytes:
    """The octets of a response in front of its body, or with `body` of all of a response with that body."""
    properties: dict[str, object] = {VERSION: head.version, FIELDS: join_fields(head.fields)}
    if head.upgrade:
        properties[UPGRADE] = head.upgrade.decode("latin-1")
    out = Message(
        properties=Properties(to=to, subject=str(head.status), correlation_id=correlation_id),
        application_properties=properties,
    ).encode()
    return out if body is None else out + data_section(body)


def join_fields(fields: Fields) -> str:
    """Field lines as text."""
    return b"".join([b"%s: %s\r\n" % field for field in fields]).decode("latin-1")


def data_section(data: bytes | memoryview) -> bytes:
    """A portion of a body as a data section."""
    size = len(data)
    if size <= 0xFF:
        return b"".join((b"\x00\x53\x75\xa0", bytes((size,)), data))
    return b"".join((b"\x00\x53\x75\xb0", size.to_bytes(4, "big"), data))


def encode_trailers(trailers: Fields) -> bytes:
    """What ends a message with trailers: a footer; without trailers, nothing."""
    if not trailers:
        return b""
    out = bytearray(b"\x00\x53\x78")
    encode_fields({TRAILERS: join_fields(trailers)}, out, 1)
    return bytes(out)


# ------------------------------------------------------------------------------------------------------------ decoding


def decode_request(head: Message) -> RequestHead:
    """The request that a message stands for. Raises DecodeError when it stands for none."""
    named = head.application_properties or {}
    properties = head.properties
    method = _ascii(properties.subject if properties is not None else None, "subject", "GET")
    if _IS_TOKEN.fullmatch(method) is None:
        raise DecodeError("subject is no method of HTTP")
    target = _ascii(named.get(PATH), PATH, "/")
    if _IS_TARGET.fullmatch(target) is None:
        raise DecodeError(f"{PATH} is no target of a request")
    scheme = _ascii(named.get(SCHEME), SCHEME, "http")
    if scheme not in (b"http", b"https"):
        raise DecodeError(f"{SCHEME} is neither http nor https")
    authority = _ascii(named.get(AUTHORITY), AUTHORITY, "")
    if authority and _IS_TARGET.fullmatch(authority) is None:
        raise DecodeError(f"{AUTHORITY} is no host")
    return RequestHead(
        method,
        target,
        split_fields(named.get(FIELDS)),
        authority=authority,
        scheme=scheme,
        version=_version(named),
        upgrade=_upgrade(named),
        trailers=named.get(TE) == "trailers",
        acknowledges=named.get(ACKNOWLEDGES) is True,
    )


def decode_response(head: Message) -> ResponseHead:
    """The response that a message stands for. Raises DecodeError when it stands for none."""
    named = head.application_properties or {}
    properties = head.properties
    status = properties.subject if properties is not None else None
    if status is None:
        status = "200"
    if len(status) != 3 or not status.isascii() or not status.isdigit() or not "100" <= status <= "599":
        raise DecodeError("subject is no status code of HTTP")
    code = int(status)
    upgrade = _upgrade(named)
    if code < 200 and (code != 101 or not upgrade):
        raise DecodeError(f"{status} is no final status")
    return ResponseHead(code, split_fields(named.get(FIELDS)), version=_version(named), upgrade=upgrade)


def split_fields(text: object) -> Fields:
    """The fields of lines of text, without those of one connection. Raises DecodeError for anything else."""
    if text is None or not text:
        return []
    lines = _latin(text, FIELDS)
    if _LINES.fullmatch(lines) is None:
        raise DecodeError("header field lines of HTTP that are none")
    fields = []
    for line in lines.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name not in HOP_BY_HOP:
                fields.append((name, value.strip(b" \t")))
    return fields


def _version(named: dict[str, object]) -> str:
    version = named.get(VERSION)
    return version if isinstance(version, str) and version in ("1.0", "1.1", "2") else "1.1"


def _upgrade(named: dict[str, object]) -> bytes:
    upgrade = _latin(named.get(UPGRADE) or "", UPGRADE)
    if _IS_VALUE.fullmatch(upgrade) is None:
        raise DecodeError(f"{UPGRADE} is no protocol")
    return upgrade


def _latin(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise DecodeError(f"{name} is no text")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        raise DecodeError(f"{name} has characters beyond latin-1") from None


def _ascii(value: object, name: str, default: str) -> bytes:
    return _latin(default if value is None else value, name)


def take_apart(payload: bytes) -> tuple[Message, bytes, Fields]:
    """A whole message, the octets of its body, and its trailers.

    Raises DecodeError for what is no message, or none with a body of octets.
    """
    message = Message.decode(payload)
    body = message.body
    if isinstance(body, Data):
        data = body.value
    elif body is None:
        data = b""
    elif isinstance(body, list):
        data = b"".join([_octets(section.value) for section in body])
    else:
        data = _octets(body.value)
    footer = message.footer
    return message, data, [] if footer is None else split_fields(footer.get(TRAILERS))


def _octets(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if value is None:
        return b""
    raise DecodeError("a body that is not made of octets")


# Where a reader is in a message.
_HEAD: Final = 0
_BETWEEN: Final = 1
_IN_DATA: Final = 2
_IN_FOOTER: Final = 3
# As much of a section as says how long it is.
_SECTION_START: Final = 8


class MessageReader:
    """Takes a message apart as it comes, in whatever pieces.

    `head` is the message without its body, None until that is there. `feed` gives out the octets of the body;
    `trailers` are complete when `finish` has returned. A body of one value that is binary or text is read as its
    octets, too.
    """

    __slots__ = ("_kept", "_left", "_state", "head", "trailers")

    def __init__(self) -> None:
        self.head: Message | None = None
        self.trailers: Fields = []
        self._state = _HEAD
        # Octets that are not enough to go on with.
        self._kept = b""
        # Of a section of data.
        self._left = 0

    def feed(self, data: bytes | memoryview, out: list[bytes | memoryview]) -> int:
        """Take the next octets of the message; append those of the body to `out` and return how many they are.

        Raises DecodeError for what is no message, or none with a body of octets.
        """
        if self._state == _IN_DATA and len(data) <= self._left:
            size = len(data)
            self._left -= size
            if not self._left:
                self._state = _BETWEEN
            out.append(data)
            return size
        return self._feed(data, out)

    def _feed(self, data: bytes | memoryview, out: list[bytes | memoryview]) -> int:
        total = 0
        if self._kept:
            data = b"".join((self._kept, data))
            self._kept = b""
        pos = 0
        end = len(data)
        while pos < end:
            if self._state == _IN_DATA:
                size = min(self._left, end - pos)
                out.append(memoryview(data)[pos : pos + size])
                total += size
                pos += size
                self._left -= size
                if not self._left:
                    self._state = _BETWEEN
                continue
            if self._state == _HEAD:
                used = self._read_head(bytes(data[pos:]))
            elif self._state == _BETWEEN:
                used = self._begin_section(bytes(data[pos : pos + _SECTION_START]))
            else:
                used = 0
            if not used:
                self._kept = bytes(data[pos:])
                if len(self._kept) > (MAX_HEAD if self._state == _HEAD else MAX_TRAILERS):
                    raise DecodeError("a message of HTTP whose header or trailers are too long")
                break
            pos += used
        return total

    def _read_head(self, data: bytes) -> int:
        """Read what is in front of the body; return its octets, 0 while it is not whole."""
        pos = 0
        while pos < len(data):
            if len(data) - pos >= 3 and data[pos] == 0 and data[pos + 1] == 0x53 and data[pos + 2] >= DATA:
                self.head = Message.decode(data[:pos])
                self._state = _BETWEEN
                return pos + self._begin_section(data[pos : pos + _SECTION_START])
            try:
                code, _, pos = locate_section(data, pos)
            except IncompleteMessageError:
                return 0
            if code >= DATA or not code:
                raise DecodeError("a message of HTTP with a section that is unknown")
        return 0

    def _begin_section(self, data: bytes) -> int:
        """Begin a section behind the head; return how many octets that took, 0 where they do not suffice."""
        if len(data) < 5:
            return 0
        if data[0] or data[1] != 0x53:
            raise DecodeError("a message of HTTP with a section that is unknown")
        code = data[2]
        if code in (DATA, AMQP_VALUE):
            kind = data[3]
            if kind in (0xA0, 0xA1):
                self._left = data[4]
                used = 5
            elif kind in (0xB0, 0xB1):
                if len(data) < 8:
                    return 0
                self._left = int.from_bytes(data[4:8], "big")
                used = 8
            elif kind == 0x40:
                self._left = 0
                used = 4
            else:
                raise DecodeError("a body that is not made of octets")
            if self._left:
                self._state = _IN_DATA
            return used
        if code == FOOTER:
            self._state = _IN_FOOTER
            return 0
        raise DecodeError("a body that is not made of octets")

    def finish(self) -> None:
        """The message has ended. Raises DecodeError where that is in the middle of something."""
        if self._state == _HEAD:
            self.head = Message.decode(self._kept)
        elif self._state == _IN_FOOTER:
            footer = Message.decode(self._kept).footer or {}
            self.trailers = split_fields(footer.get(TRAILERS))
        elif self._state == _IN_DATA or self._kept:
            raise DecodeError("a message that ends in the middle of its body")
        self._kept = b""
