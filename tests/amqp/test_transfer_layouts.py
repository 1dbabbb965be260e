"""A session learns how its peer writes Transfers (`TransferLayout`): nothing that is written otherwise is misread."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.amqp.pair import Endpoint
from tests.amqp.peer import Peer, condition, sender_to, sending, transfer
from van.amqp.errors import ErrorCondition
from van.amqp.framing import encode_frame
from van.amqp.performatives import Detach, End
from van.amqp.session import LEARN_EVERY

# Enough of one kind that its layout is learned, whatever was learned before.
RUN = LEARN_EVERY + 4


class Style(NamedTuple):
    """How a sender encodes a Transfer. `handle` is the encoding of its link's handle, `tail` what follows the tag."""

    wide: bool = False
    handle: int = 0x43
    tail: bytes = b"\x43\x42"
    tag_length: int = 4

    def write(self, link: int, delivery_id: int, payload: bytes) -> bytes:
        handle = {0x43: b"\x43", 0x52: bytes((0x52, link)), 0x70: b"\x70" + struct.pack(">I", link)}
        tag = self.tag(delivery_id)
        fields = handle[self.handle if link == 0 else max(self.handle, 0x52)]
        fields += b"\x70" + struct.pack(">I", delivery_id) + bytes((0xA0, len(tag))) + tag + self.tail
        # A message-format of several octets is one field.
        count = 3 + len(self.tail) - {0x70: 4, 0x52: 1}.get(self.tail[0], 0)
        if self.wide:
            head = b"\xd0" + struct.pack(">II", len(fields) + 4, count)
        else:
            head = bytes((0xC0, len(fields) + 1, count))
        return encode_frame(0, b"\x00\x53\x14" + head + fields + payload)

    def tag(self, delivery_id: int) -> bytes:
        return struct.pack(">Q", delivery_id)[-self.tag_length :]

    @property
    def settled(self) -> bool:
        return self.tail[-1] == 0x41

    @property
    def message_format(self) -> int:
        return {0x70: 7, 0x52: 0x43}.get(self.tail[0], 0)


STYLES = st.builds(
    Style,
    wide=st.booleans(),
    handle=st.sampled_from((0x43, 0x52, 0x70)),
    tail=st.sampled_from((b"\x43\x42", b"\x43\x41", b"\x40\x42", b"\x43\x42\x42", b"\x70\x00\x00\x00\x07\x42")),
    tag_length=st.integers(1, 8),
)
RUNS = st.lists(st.tuples(st.integers(0, 1), STYLES, st.integers(1, RUN)), min_size=1, max_size=6)


Written = tuple[int, bytes, bytes, bool, int]


def two_links() -> Peer:
    return sender_to(Endpoint(credit=1000), name="0").attach(sending("1", 1))


def send(peer: Peer, link: int, style: Style, first: int, count: int) -> list[Written]:
    """Send messages in one batch; returns what was written: id, tag, payload, settled, message-format."""
    ids = range(first, first + count)
    peer.send(*(style.write(link, number, str(number).encode()) for number in ids))
    return [(number, style.tag(number), str(number).encode(), style.settled, style.message_format) for number in ids]


def read(peer: Peer, link: int) -> list[Written]:
    """The same of what has arrived."""
    return [
        (delivery.delivery_id, delivery.delivery_tag, delivery.data(), delivery.settled, delivery.message_format)
        for delivery in peer.engine.sinks[str(link)].received
    ]


@given(RUNS)
def test_whatever_is_written_after_whatever_is_read_as_it_was_written(runs: list[tuple[int, Style, int]]) -> None:
    peer = two_links()
    written: list[list[Written]] = [[], []]
    delivery_id = 70_000
    for link, style, count in runs:
        written[link] += send(peer, link, style, delivery_id, count)
        delivery_id += count
    assert [read(peer, 0), read(peer, 1)] == written


@pytest.mark.parametrize(
    ("link", "style"),
    [
        (1, Style(handle=0x52)),
        (0, Style(handle=0x52, tail=b"\x52\x43\x42", tag_length=3)),
        (0, Style(handle=0x52, tail=b"\x43\x41")),
        (0, Style(handle=0x52, tail=b"\x40\x42")),
    ],
    ids=["another link", "a shorter tag", "settled", "no format"],
)
def test_what_has_the_size_of_a_known_layout_and_differs_in_one_place_is_read_as_it_was_written(
    link: int, style: Style
) -> None:
    peer = two_links()
    written: list[list[Written]] = [[], []]
    written[0] += send(peer, 0, Style(handle=0x52), 1000, RUN)
    written[link] += send(peer, link, style, 2000, 2)
    assert [read(peer, 0), read(peer, 1)] == written


def learned() -> Peer:
    """A peer whose way to write is known."""
    peer = two_links()
    peer.send(*(Style().write(0, 1000 + number, b"x") for number in range(RUN)))
    peer.take()
    return peer


def test_a_frame_that_ends_in_the_middle_of_a_known_layout_is_refused() -> None:
    peer = learned()
    whole = Style().write(0, 5000, b"")
    short = whole[8:-2]
    # The octets that it lacks come next, as another frame.
    peer.send(encode_frame(0, short), transfer(5001))
    assert peer.engine.connection.closed or peer.engine.connection.close_sent


def test_a_link_that_has_gone_is_not_sent_to() -> None:
    peer = learned()
    count = len(peer.engine.sinks["0"].received)
    peer.send(Detach(handle=0, closed=True))
    peer.take()
    peer.send(Style().write(0, 5000, b"x"))
    assert len(peer.engine.sinks["0"].received) == count
    assert peer.one(End).error is not None


def test_another_link_with_the_handle_of_one_that_has_gone_is_read_by_its_own_credit() -> None:
    peer = learned()
    peer.send(Detach(handle=0, closed=True))
    peer.attach(sending("2", 0))
    peer.send(Style().write(0, 5000, b"new"))
    assert peer.engine.sinks["2"].bodies == [b"new"]
    assert peer.engine.sinks["2"].link.link_credit == 999


def test_a_tag_that_is_too_long_is_refused_on_the_next_link_too() -> None:
    peer = two_links()
    tags = [b"t" * 36 + struct.pack(">I", number) for number in range(3)]
    long = [transfer(70_000 + number, delivery_tag=tag) for number, tag in enumerate(tags)]
    peer.send(long[0])
    assert condition(peer.one(Detach)) == ErrorCondition.INVALID_FIELD
    peer.send(Detach(handle=0, closed=True))
    peer.attach(sending("2", 0))
    peer.send(long[1], long[2])
    assert peer.engine.sinks["2"].received == []
