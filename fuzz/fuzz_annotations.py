"""Any octets in front of a message are router annotations, or none, or raise DecodeError; a router writes them anew.

What was read is written so that it reads the same, with this router as the last one that the message passed.
"""

from __future__ import annotations

from harness import main

from van.amqp.errors import AmqpError
from van.routing.dialect.annotations import (
    MAX_SECTION,
    PREFIX,
    decode_annotations,
    encode_annotations,
    section_end,
)
from van.routing.router import Router

DECODER = {"van.routing.dialect.annotations": r"^(section_end|decode_annotations)"}

PLANTED = (
    # A section may leave the message.
    (
        "van.routing.dialect.annotations",
        "    if stop > len(payload) or stop > MAX_SECTION:",
        "    if stop > MAX_SECTION:",
    ),
    # Fewer than four items.
    (
        "van.routing.dialect.annotations",
        "    if not isinstance(value, list) or len(value) < 4:",
        "    if not isinstance(value, list):",
    ),
    # A trace of anything.
    (
        "van.routing.dialect.annotations",
        "    if not isinstance(trace, list) or not all(isinstance(hop, str) for hop in trace):",
        "    if not isinstance(trace, list):",
    ),
)

ROUTER = Router("R", tokens=lambda: "x")


def one_input(data: bytes) -> None:
    for payload in (data, PREFIX + data):
        try:
            end = section_end(payload)
            assert 0 <= end <= min(len(payload), MAX_SECTION)
            annotations = ROUTER.annotations_of(payload[:end])
        except AmqpError:
            continue
        assert (end == 0) == (not payload.startswith(PREFIX))
        assert annotations.trace == () or len(annotations.hops) == len(annotations.trace)
        forwarded = annotations.forwarded
        assert section_end(forwarded + b"x") == len(forwarded) or len(forwarded) > MAX_SECTION
        again = decode_annotations(forwarded)
        assert again.to_override == annotations.to_override
        assert again.mesh == annotations.mesh
        assert again.trace == (*annotations.trace, "0/R")
        assert again.ingress == (annotations.ingress or "0/R")
        assert again.flags == annotations.flags
        assert encode_annotations(again.flags, again.to_override, again.ingress, again.trace, again.mesh) == forwarded


main(__name__)
