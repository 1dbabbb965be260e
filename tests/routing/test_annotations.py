"""Router annotations: the octets of the deployed routers, round trips, and sections that no router writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adaptors.routers import RouterNode, Routers
from tests.routing.network import Receiver, Sent
from tests.routing.test_across_routers import line
from van.amqp.codec import encode_value
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Rejected
from van.amqp.errors import DecodeError
from van.amqp.types import Described, Int, UInt, ULong
from van.routing.dialect.annotations import (
    MAX_SECTION,
    PREFIX,
    PRESETTLED,
    Annotations,
    decode_annotations,
    encode_annotations,
    router_of,
    section_end,
)

# What stood before a message of router B for the address edge.q, as recorded.
RECORDED = bytes.fromhex(
    "0080534b50522d2d5241d0000000200000000443a106656467652e71a103302f42d00000000900000001a103302f42"
)


def test_the_recorded_octets() -> None:
    assert encode_annotations(0, "edge.q", "0/B", ("0/B",)) == RECORDED
    annotations = decode_annotations(RECORDED)
    assert (annotations.flags, annotations.to_override) == (0, "edge.q")
    assert (annotations.ingress, annotations.trace, annotations.mesh) == ("0/B", ("0/B",), None)
    assert section_end(RECORDED + b"\x00\x53\x70\x45") == len(RECORDED)


texts = st.none() | st.text(max_size=300)


@given(st.integers(0, 0xFFFFFFFF), texts, texts, st.lists(st.text(max_size=300), max_size=300), texts)
def test_what_is_written_is_read(
    flags: int, to: str | None, ingress: str | None, trace: list[str], mesh: str | None
) -> None:
    section = encode_annotations(flags, to, ingress, tuple(trace), mesh)
    if len(section) > MAX_SECTION:
        with pytest.raises(DecodeError):
            section_end(section)
        return
    assert section_end(section + b"rest") == len(section)
    read = decode_annotations(section)
    assert (read.flags, read.to_override, read.ingress) == (flags, to, ingress)
    assert (read.trace, read.mesh) == (tuple(trace), mesh)


@given(st.binary(max_size=80))
def test_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        end = section_end(PREFIX + octets)
        decode_annotations((PREFIX + octets)[:end])
    except DecodeError:
        pass


def section(value: object) -> bytes:
    out = bytearray()
    encode_value(Described(ULong(0x534B50522D2D5241), value), out)
    return bytes(out)


class TestLeniency:
    """What the deployed routers take beside what they write."""

    @pytest.mark.parametrize(
        "value",
        [
            [UInt(0), "q", "0/A", ["0/A"]],
            [Int(0), "q", "0/A", ["0/A"]],
            [UInt(0), "q", "0/A", ["0/A"], None],
            [UInt(0), "q", "0/A", ["0/A"], None, "later", 5],
            [UInt(0), "q", "0/A", None],
        ],
    )
    def test_read(self, value: object) -> None:
        annotations = decode_annotations(section(value))
        assert annotations.to_override == "q"

    @pytest.mark.parametrize(
        "value",
        [
            [],
            [UInt(0), "q", "0/A"],
            [True, "q", "0/A", []],
            [Int(-1), "q", "0/A", []],
            ["0", "q", "0/A", []],
            [UInt(0), 7, "0/A", []],
            [UInt(0), "q", b"0/A", []],
            [UInt(0), "q", "0/A", [7]],
            [UInt(0), "q", "0/A", "0/A"],
            [UInt(0), "q", "0/A", [], 7],
        ],
    )
    def test_refused(self, value: object) -> None:
        octets = section(value)
        with pytest.raises(DecodeError):
            decode_annotations(octets[: section_end(octets)])


def test_router_of() -> None:
    assert [router_of(node) for node in ("0/A", None, "", "odd")] == ["A", "", "", ""]


class TestOnALink:
    """A neighbour's deliveries with what it writes in front."""

    def routers(self) -> tuple[Routers, RouterNode, RouterNode, Receiver]:
        network, (a, b) = line("A", "B")
        receiver = b.client().receiver("q", credit=100)
        network.advance(1.0)
        return network, a, b, receiver

    def send(self, network: Routers, node: RouterNode, payload: bytes, *, settled: bool = False) -> Sent:
        """Write a delivery on the data link as it is."""
        neighbor = node.router.neighbor_of("B")
        assert neighbor is not None
        outgoing = neighbor.by_priority[4]
        delivery = Delivery(None, 0, b"", payload, settled, node.router.own_octets)
        sent = Sent(outgoing.link, delivery)
        delivery.origin = sent
        outgoing.outstanding += 1
        outgoing.undelivered.append(delivery)
        outgoing.link.ready()
        node.router.wake_touched()
        network.run()
        return sent

    def test_a_section_that_cannot_be_read_is_the_fault_of_its_delivery(self) -> None:
        network, a, _, receiver = self.routers()
        for payload in (section([]) + b"x", PREFIX, PREFIX + b"\x71", section(["wrong", None, None, []])):
            sent = self.send(network, a, payload)
            assert isinstance(sent.state, Rejected)
            assert sent.state.error is not None
            assert sent.state.error.condition == "amqp:invalid-field"
            self.send(network, a, payload, settled=True)
        good = self.send(network, a, encode_annotations(0, "q", "0/A", ("0/A",)) + b"good")
        assert good.state == ACCEPTED
        assert receiver.bodies == [b"good"]

    def test_without_a_section_the_message_says_where_it_goes(self) -> None:
        network, a, _, receiver = self.routers()
        to_q = b"\x00\x53\x73\xc0\x06\x03\x40\x40\xa1\x01q"
        assert self.send(network, a, to_q).state == ACCEPTED
        assert self.send(network, a, encode_annotations(0, None, "0/A", ("0/A",)) + to_q).state == ACCEPTED
        assert receiver.bodies == [to_q, to_q]
        assert isinstance(self.send(network, a, b"\x00\x53\x77\x40").state, Rejected)
        assert isinstance(self.send(network, a, b"garbage").state, Rejected)

    def test_nothing_behind_a_to_override_is_looked_at(self) -> None:
        network, a, _, receiver = self.routers()
        assert self.send(network, a, encode_annotations(0, "q", "0/A", ("0/A",)) + b"\xff\xff\xff").state == ACCEPTED
        assert receiver.bodies == [b"\xff\xff\xff"]

    def test_what_has_passed_too_many_routers_is_released(self) -> None:
        network, a, b, receiver = self.routers()
        trace = tuple(f"0/R{number}" for number in range(b.router.max_hops + 1))
        assert self.send(network, a, encode_annotations(0, "q", "0/R0", trace) + b"x").state == RELEASED
        assert self.send(network, a, encode_annotations(0, "q", "0/R0", trace[:-1]) + b"x").state == ACCEPTED
        assert receiver.bodies == [b"x"]

    def test_an_origin_that_nobody_knows_counts_as_here_for_anycast(self) -> None:
        network, a, _, _ = self.routers()
        assert self.send(network, a, encode_annotations(0, "q", "0/unknown", ("0/unknown",)) + b"x").state == ACCEPTED
        assert self.send(network, a, encode_annotations(0, "q", None, ()) + b"x").state == ACCEPTED

    def test_kinds_of_annotations_that_never_come_again_are_forgotten(self) -> None:
        network, a, b, _receiver = self.routers()
        b.router.annotations.clear()
        for number in range(4100):
            b.router.annotations_of(encode_annotations(0, f"q{number}", "0/A", ("0/A",)))
        assert len(b.router.annotations) <= 4096
        assert self.send(network, a, encode_annotations(0, "q", "0/A", ("0/A",)) + b"x").state == ACCEPTED

    def test_presettled_deliveries_of_a_peer_without_credit_from_end_to_end_are_dropped_from_the_oldest(self) -> None:
        network, a, b, receiver = self.routers()
        stuck = b.client().receiver("stuck", credit=0, auto=False)
        for number in range(1000):
            self.send(network, a, encode_annotations(0, "stuck", "0/A", ("0/A",)) + b"%d" % number, settled=True)
        assert 700 <= b.router.dropped_presettled <= 760
        stuck.credit(1000)
        network.run()
        assert stuck.bodies == [b"%d" % number for number in range(1000 - len(stuck.bodies), 1000)]
        assert self.send(network, a, encode_annotations(0, "q", "0/A", ("0/A",)) + b"x").state == ACCEPTED
        assert receiver.bodies == [b"x"]

    def test_a_flagged_delivery_leaves_settled_and_is_accepted(self) -> None:
        network, a, _, receiver = self.routers()
        sent = self.send(network, a, encode_annotations(PRESETTLED, "q", "0/A", ("0/A",)) + b"x")
        assert sent.state == ACCEPTED
        assert receiver.deliveries[0].settled


def test_repr() -> None:
    assert repr(Annotations(1, "q", "0/A", ("0/A",), "m")) == "Annotations(0x1, 'q', '0/A', ('0/A',), 'm')"
