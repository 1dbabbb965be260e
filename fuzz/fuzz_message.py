"""Any octets are a message or raise DecodeError; what is read of it in passing is what the whole message says.

A message is written so that it is read again as an equal one, and its sections lie one behind another.
"""

from __future__ import annotations

from harness import main

from van.amqp.composite import decode_composite
from van.amqp.errors import AmqpError
from van.amqp.message import (
    DEFAULT_PRIORITY,
    PROPERTIES,
    Message,
    locate_section,
    locate_sections,
    read_priority,
    read_to,
)

DECODER = {
    "van.amqp.message": r"^_?(decode|Message\.decode|descriptor|section_end|locate|read|list_start|add_section)",
}

PLANTED = (
    # Data may be cut.
    (
        "van.amqp.message",
        "                if pos > end:\n                    raise cut_short(end)\n                message.body",
        "                message.body",
    ),
    # The properties may leave the message.
    (
        "van.amqp.message",
        "    if stop > end:\n        raise cut_short(end)\n    if count > len(_FIELDS):",
        "    if count > len(_FIELDS):",
    ),
    # A section may leave the message.
    (
        "van.amqp.message",
        """    if stop > end:
        raise IncompleteMessageError(f"message cut short in the section at octet {pos}")
    return code, value, stop
""",
        "    return code, value, stop\n",
    ),
)


def one_input(data: bytes) -> None:
    to: object
    try:
        to = read_to(data)
    except AmqpError:
        to = False
    try:
        priority = read_priority(data)
    except AmqpError:
        priority = -1
    try:
        sections = locate_sections(data)
    except AmqpError:
        sections = None
    try:
        assert sections is None or not data or locate_section(data, 0) == (sections[0][0], *sections[0][2:])
        assert locate_section(data, 0)[2] <= len(data)
    except AmqpError:
        assert not data or sections is None
    try:
        message = Message.decode(data)
    except AmqpError:
        return
    assert sections is not None
    assert [start for _, start, _, _ in sections] == [0, *(end for _, _, _, end in sections)][: len(sections)]
    assert not sections or sections[-1][3] == len(data)
    assert to == (message.properties.to if message.properties else None)
    stated = message.header.priority if message.header else None
    assert priority == (DEFAULT_PRIORITY if stated is None else stated)
    encoded = message.encode()
    again = Message.decode(encoded)
    assert again == message or again.encode() == encoded
    for code, start, _, end in sections:
        if code == PROPERTIES:
            # The fast decoder of the properties agrees with the table.
            properties, _ = decode_composite(data, start, end)
            assert properties == message.properties
    repr(message)


main(__name__)
