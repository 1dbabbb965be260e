"""Any octets asked of a server of names are answered within bounds or not at all, and never raise.

A response belongs to its question, is read by dnspython, and over UDP is not much larger than what was asked. Names
that are found are those of addresses, and what other routers tell of services is taken or refused whole.
"""

from __future__ import annotations

import dns.message
from harness import main

from van.adaptors.dns.directory import CONNECT, LISTEN, MAX_SERVICES, read_records
from van.adaptors.dns.names import address_of, existing, labels_of
from van.adaptors.dns.responder import AMPLIFICATION, LEAST_UDP_RESPONSE, DnsResponder, Endpoint, Question
from van.amqp.codec import decode_value
from van.amqp.errors import AmqpError
from van.routing.address import strip_address

DECODER = {
    "van.adaptors.dns.names": r"^(labels_of|address_of|_unescape)",
    "van.adaptors.dns.responder": r"^DnsResponder\.(read|_look_at|answer|_about_the_zone|_respond|_bare)",
    "van.adaptors.dns.directory": r"^read_records",
}

PLANTED = (
    # A question of any length of time.
    (
        "van.adaptors.dns.responder",
        "        if len(wire) < _HEADER.size:\n",
        "        if not wire:\n",
    ),
    # Two questions, or none.
    (
        "van.adaptors.dns.responder",
        "        if len(message.question) != 1 or",
        "        if",
    ),
    # As large as the client says.
    (
        "van.adaptors.dns.responder",
        "limit = min(size, MAX_UDP_RESPONSE, max(LEAST_UDP_RESPONSE, AMPLIFICATION * len(wire)))",
        "limit = size",
    ),
    # A name that another address has, too.
    (
        "van.adaptors.dns.names",
        "    return address if labels_of(address) == tuple([label.lower() for label in labels]) else None",
        "    return address",
    ),
    # An entry that is no list.
    (
        "van.adaptors.dns.directory",
        "        if not isinstance(each, list) or len(each) < 4:",
        "        if not isinstance(each, list):",
    ),
)

SERVICES = {
    "a": [Endpoint("127.0.0.1", 80, "http", "tcp"), Endpoint("::1", 81, "http", "tcp")],
    "b.c": [Endpoint("127.0.0.1", 514, "udp", "udp")],
    "many": [Endpoint(f"10.0.0.{number}", number, "tcp", "tcp") for number in range(1, 17)],
}
RESPONDER = DnsResponder("van", host="127.0.0.1", exists=existing(SERVICES).__contains__)


def respond(wire: bytes, udp: bool) -> bytes | None:
    found = RESPONDER.read(wire, udp=udp)
    if not isinstance(found, Question):
        return found
    assert address_of(labels_of(found.address) or ()) == found.address
    endpoints = SERVICES.get(found.address)
    return RESPONDER.missing(found) if endpoints is None else RESPONDER.answer(found, endpoints)


def one_input(data: bytes) -> None:
    for udp in (True, False):
        response = respond(data, udp)
        if response is None:
            continue
        assert response[:2] == data[:2]
        assert not udp or len(response) <= max(LEAST_UDP_RESPONSE, AMPLIFICATION * len(data))
        answer = dns.message.from_wire(response)
        assert len(answer.question) <= 1
    text = data.decode("utf-8", "replace")
    labels = labels_of(text)
    assert labels is None or address_of(labels) == strip_address(text)
    address = address_of(tuple(text.split(".")))
    assert address is None or labels_of(address) == tuple(text.lower().split("."))
    try:
        value, _ = decode_value(data, 0, len(data))
    except AmqpError:
        return
    records = read_records(value)
    assert records is None or len(records) <= MAX_SERVICES
    for record in records or ():
        assert record.address
        assert 0 < record.port < 65536
        assert record.side in (CONNECT, LISTEN)


main(__name__)
