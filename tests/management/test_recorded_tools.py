"""What the tools of the deployed routers sent to one of them, sent to ours: the answers have the same shape.

Every frame that `skstat` or `skmanage` wrote is handed to our router as it was recorded, under the names of the
recording; our answers are compared with the recorded ones in everything but values.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.management.nodes import Answer, SceneFacts
from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.amqp.delivery_state import Accepted
from van.amqp.message import Message
from van.amqp.performatives import Attach, Disposition, Transfer, decode_performative
from van.amqp.terminus import Source
from van.management.agent import ManagementAgent
from van.management.entities import BY_TYPE
from van.management.requests import without_prefix
from van.management.schema import PREFIX
from van.routing.router import Router

RECORDED = Path(__file__).parent / "recorded"
STREAMS = range(22)

# What is not there yet is refused in order.
OPERATIONS_LATER = {"GET-LOG", "CREATE", "UPDATE", "DELETE"}
# A column that the recorded router had without a name, for its version.
UNNAMED = ""


def frames(stream: str) -> list[bytes]:
    """The header and the frames of one direction."""
    octets = (RECORDED / f"cap-m.{stream}.bin").read_bytes()
    assert octets.startswith(b"AMQP\x00\x01\x00\x00")
    result = [octets[:8]]
    pos = 8
    while pos < len(octets):
        size = int.from_bytes(octets[pos : pos + 4], "big")
        result.append(octets[pos : pos + size])
        pos += size
    return result


def performatives(stream: list[bytes]) -> list[tuple[Any, bytes]]:
    """The performatives of a direction, and what stands behind each."""
    result: list[tuple[Any, bytes]] = []
    for frame in stream[1:]:
        body = frame[4] * 4
        if body < len(frame):
            performative, end = decode_performative(frame, body, len(frame))
            result.append((performative, frame[end:]))
    return result


def messages(stream: list[bytes]) -> list[Message]:
    """The messages of a direction, joined from their frames."""
    result = []
    payload = b""
    for performative, rest in performatives(stream):
        if isinstance(performative, Transfer):
            payload += rest
            if not performative.more:
                result.append(Message.decode(payload))
                payload = b""
    return result


def reply_address(stream: list[bytes]) -> str:
    """The address that the recorded router made up for replies."""
    for performative, _ in performatives(stream):
        if isinstance(performative, Attach) and isinstance(performative.source, Source) and performative.source.dynamic:
            address = performative.source.address
            assert address is not None
            return address
    raise LookupError


def replay(number: int) -> tuple[list[Message], list[bytes]]:
    """Hand the tool's frames to our router; returns its requests, and the frames that our router has written."""
    asked = frames(f"{number}.c2s")
    token = reply_address(frames(f"{number}.s2c")).rpartition("/temp.")[2]
    router = Router("A", tokens=itertools.repeat(token).__next__)
    adaptors: list[AmqpAdaptor] = []
    ManagementAgent(router, SceneFacts(adaptors))
    adaptor = AmqpAdaptor(router, ConnectionSettings(), number=1)
    adaptors.append(adaptor)
    written: list[bytes] = []
    for frame in asked:
        adaptor.receive_data(frame, 0.0)
        router.wake_touched()
        written += map(bytes, adaptor.data_to_send(1_000_000))
    assert adaptor.closed
    octets = b"".join(written)
    answered = [octets[:8]]
    pos = 8
    while pos < len(octets):
        size = int.from_bytes(octets[pos : pos + 4], "big")
        answered.append(octets[pos : pos + size])
        pos += size
    return messages(asked), answered


OURS = {"payloadHeld"}


def kinds(values: list[object]) -> set[type]:
    """The types of values on the wire, null left out."""
    return {type(value) for value in values if value is not None}


def assert_same_table(ours: Answer, recorded: Answer) -> None:
    """A QUERY is answered with the same columns, which hold the same types; what is ours alone stands behind them."""
    columns = [place for place, name in enumerate(recorded.names) if name != UNNAMED]
    assert ours.names[: len(columns)] == [recorded.names[place] for place in columns]
    assert set(ours.names[len(columns) :]) <= OURS
    for place, recorded_place in enumerate(columns):
        mine = kinds([row[place] for row in ours.body["results"]])
        theirs = kinds([row[recorded_place] for row in recorded.body["results"]])
        assert not mine or not theirs or mine <= theirs, ours.names[place]


def assert_same_answer(request: Message, ours: Answer, recorded: Answer) -> None:
    given: dict[str, Any] = request.application_properties or {}
    operation = given["operation"]
    entity_type = without_prefix(given.get("entityType") or "")
    read_type = without_prefix(given.get("type") or "")
    known = entity_type in BY_TYPE or not entity_type
    if operation in OPERATIONS_LATER or not known or (operation == "READ" and read_type not in BY_TYPE):
        assert ours.status in (400, 403, 501)
        assert ours.description
        assert ours.body == {}
        return
    assert (ours.status, ours.description) == (recorded.status, recorded.description)
    if ours.status != 200:
        assert ours.body == recorded.body
    elif operation == "QUERY":
        assert_same_table(ours, recorded)
    elif operation == "READ":
        common = ours.body.keys() & recorded.body.keys()
        assert {"type", "identity", "name"} <= common
        assert all(type(ours.body[name]) is type(recorded.body[name]) for name in common)
    elif operation == "GET-TYPES":
        # One type is ours alone.
        own = {PREFIX + "service"}
        assert {name: ours.body[name] for name in ours.body.keys() - own}.items() <= recorded.body.items()
    elif operation == "GET-OPERATIONS":
        assert ours.body.keys() == recorded.body.keys()
        assert all(set(ours.body[name]) <= set(recorded.body[name]) for name in ours.body)
    else:
        assert type(ours.body) is type(recorded.body)


@pytest.mark.parametrize("number", STREAMS)
def test_a_recorded_tool_gets_answers_of_the_same_shape(number: int) -> None:
    requests, answered = replay(number)
    ours = messages(answered)
    recorded = messages(frames(f"{number}.s2c"))
    assert len(ours) == len(recorded) == len(requests) > 0
    for request, mine, theirs in zip(requests, ours, recorded, strict=True):
        assert mine.properties == theirs.properties
        assert mine.header == theirs.header
        assert_same_answer(request, Answer(mine), Answer(theirs))


@pytest.mark.parametrize("number", STREAMS)
def test_requests_are_accepted_and_replies_are_settled(number: int) -> None:
    requests, answered = replay(number)
    said = [performative for performative, _ in performatives(answered)]
    replies = [said_first for said_first in said if isinstance(said_first, Transfer) and said_first.delivery_tag]
    outcomes = [outcome for outcome in said if isinstance(outcome, Disposition)]
    assert len(replies) == len(requests)
    assert all(reply.settled for reply in replies)
    assert sum((outcome.last or outcome.first) - outcome.first + 1 for outcome in outcomes) == len(requests)
    assert all(outcome.settled and isinstance(outcome.state, Accepted) for outcome in outcomes)
