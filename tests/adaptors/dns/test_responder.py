"""Questions of the DNS and their answers, octets in and octets out; dnspython asks."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st

from van.adaptors.dns.names import existing, labels_of
from van.adaptors.dns.responder import (
    AMPLIFICATION,
    LEAST_UDP_RESPONSE,
    MAX_ENDPOINTS,
    MAX_QUESTION,
    MAX_UDP_RESPONSE,
    NEGATIVE_TTL,
    DnsResponder,
    Endpoint,
    Question,
)

SERVICES = {
    "orders-db": [Endpoint("127.0.0.1", 5432, "tcp", "tcp")],
    "news.eu": [Endpoint("127.64.0.7", 80, "http", "tcp"), Endpoint("::1", 8080, "http", "tcp")],
    "syslog": [Endpoint("127.0.0.1", 514, "udp", "udp")],
    "both": [Endpoint("127.0.0.1", 53, "tcp", "tcp"), Endpoint("127.0.0.1", 54, "udp", "udp")],
    "x" * 60: [Endpoint(f"10.0.0.{number}", 1000 + number, "tcp", "tcp") for number in range(40)],
}
RESPONDER = DnsResponder("van", host="127.0.0.1", exists=existing(SERVICES).__contains__)


def respond(wire: bytes, *, udp: bool = True) -> bytes | None:
    """What a server with these services says."""
    found = RESPONDER.read(wire, udp=udp)
    if not isinstance(found, Question):
        return found
    endpoints = SERVICES.get(found.address)
    return RESPONDER.missing(found) if endpoints is None else RESPONDER.answer(found, endpoints)


def ask(name: str, kind: str = "A", *, udp: bool = True, **options: object) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
    wire = respond(query.to_wire(), udp=udp)
    assert wire is not None
    answer = dns.message.from_wire(wire)
    assert query.is_response(answer)
    return answer


def texts(answer: dns.message.Message) -> list[str]:
    return sorted(rdata.to_text() for rrset in answer.answer for rdata in rrset)


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("orders-db.van", "A", ["127.0.0.1"]),
        ("Orders-DB.VAN.", "A", ["127.0.0.1"]),
        ("orders-db.van", "SRV", ["0 0 5432 orders-db.van."]),
        ("_postgresql._tcp.orders-db.van", "SRV", ["0 0 5432 orders-db.van."]),
        ("_postgresql._TCP.orders-db.van", "SRV", ["0 0 5432 orders-db.van."]),
        ("orders-db.van", "TXT", ['"address=orders-db" "scheme=tcp"']),
        ("news.eu.van", "A", ["127.64.0.7"]),
        ("news.eu.van", "AAAA", ["::1"]),
        ("news.eu.van", "SRV", ["0 0 80 news.eu.van.", "0 0 8080 news.eu.van."]),
        ("_syslog._udp.syslog.van", "SRV", ["0 0 514 syslog.van."]),
        ("_a._tcp.both.van", "SRV", ["0 0 53 both.van."]),
        ("_a._udp.both.van", "SRV", ["0 0 54 both.van."]),
        ("both.van", "SRV", ["0 0 53 both.van.", "0 0 54 both.van."]),
        ("both.van", "TXT", ['"address=both" "scheme=tcp"', '"address=both" "scheme=udp"']),
        ("van", "NS", ["ns.van."]),
        ("ns.van", "A", ["127.0.0.1"]),
        ("van", "SOA", [f"ns.van. hostmaster.van. 1 3600 600 86400 {NEGATIVE_TTL}"]),
    ],
)
def test_answers(name: str, kind: str, found: list[str]) -> None:
    for udp in (True, False):
        answer = ask(name, kind, udp=udp)
        assert answer.rcode() == dns.rcode.NOERROR
        assert answer.flags & dns.flags.AA
        assert texts(answer) == found
        assert [rrset.ttl for rrset in answer.answer] == [30]


def test_a_target_of_srv_comes_with_its_hosts() -> None:
    answer = ask("news.eu.van", "SRV")
    found = [rrset.to_text() for rrset in answer.additional]
    assert found == ["news.eu.van. 30 IN A 127.64.0.7", "news.eu.van. 30 IN AAAA ::1"]


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("nothing.van", "A", "NXDOMAIN"),
        ("below.orders-db.van", "A", "NXDOMAIN"),
        ("_tcp.nothing.van", "SRV", "NXDOMAIN"),
        ("_a._sctp.orders-db.van", "SRV", "NXDOMAIN"),
        ("_a._udp.orders-db.van", "SRV", "NXDOMAIN"),
        ("_a._tcp.nothing.van", "SRV", "NXDOMAIN"),
        ("_a.van", "SRV", "NXDOMAIN"),
        ("--ff.van", "A", "NXDOMAIN"),
        ("\\255.van", "A", "NXDOMAIN"),
        # There is the name, and nothing of the kind.
        ("orders-db.van", "AAAA", "NOERROR"),
        ("orders-db.van", "MX", "NOERROR"),
        ("_a._tcp.orders-db.van", "A", "NOERROR"),
        ("_tcp.orders-db.van", "SRV", "NOERROR"),
        ("eu.van", "A", "NOERROR"),
        ("van", "A", "NOERROR"),
        ("ns.van", "AAAA", "NOERROR"),
    ],
)
def test_that_there_is_nothing_is_said_with_the_zone(name: str, kind: str, rcode: str) -> None:
    answer = ask(name, kind)
    assert dns.rcode.to_text(answer.rcode()) == rcode
    assert not answer.answer
    (soa,) = answer.authority
    assert (soa.name.to_text(), soa.rdtype, soa.ttl) == ("van.", dns.rdatatype.SOA, NEGATIVE_TTL)


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("example.com", "A", {}),
        ("xvan", "A", {}),
        (".", "NS", {}),
        ("orders-db.van", "ANY", {}),
        ("van", "AXFR", {}),
        ("orders-db.van", "A", {"rdclass": "CH"}),
    ],
)
def test_what_is_refused(name: str, kind: str, options: dict[str, object]) -> None:
    for udp in (True, False):
        answer = ask(name, kind, udp=udp, **options)
        assert answer.rcode() == dns.rcode.REFUSED
        assert not answer.answer
        assert not answer.authority
        assert not answer.flags & dns.flags.AA


def test_edns() -> None:
    answer = ask("orders-db.van", use_edns=0, payload=4096)
    assert (answer.edns, answer.payload) == (0, MAX_UDP_RESPONSE)
    assert ask("orders-db.van").edns == -1
    assert ask("orders-db.van", use_edns=1).rcode() == dns.rcode.BADVERS


def test_what_is_too_large_for_udp_comes_by_tcp() -> None:
    name = f"{'x' * 60}.van"
    answer = ask(name, "SRV", use_edns=0, payload=4096)
    assert answer.flags & dns.flags.TC
    assert not answer.answer
    answer = ask(name, "SRV", udp=False)
    assert not answer.flags & dns.flags.TC
    assert len(texts(answer)) == MAX_ENDPOINTS


def test_hosts_that_nobody_asked_for_are_left_out_first() -> None:
    SERVICES["many"] = [Endpoint(f"10.0.1.{number}", 1, "tcp", "tcp") for number in range(15)]
    try:
        answer = ask("many.van", "SRV")
    finally:
        del SERVICES["many"]
    assert not answer.flags & dns.flags.TC
    assert texts(answer) == ["0 0 1 many.van."]
    assert not answer.additional


def test_responses_are_never_much_larger_than_questions() -> None:
    for name in [f"{'.'.join(labels_of(address) or ())}.van" for address in SERVICES] + ["van", "nothing.van", "a.b"]:
        for kind in ("A", "AAAA", "SRV", "TXT", "NS", "SOA", "ANY", "MX"):
            for payload in (0, 512, 65535):
                wire = dns.message.make_query(name, kind, use_edns=0 if payload else False, payload=payload).to_wire()
                response = respond(wire)
                assert response is not None
                assert len(response) <= max(LEAST_UDP_RESPONSE, AMPLIFICATION * len(wire))


def test_it_is_said_that_one_should_come_by_tcp_or_later() -> None:
    found = RESPONDER.read(dns.message.make_query("orders-db.van", "A").to_wire(), udp=True)
    assert isinstance(found, Question)
    assert dns.message.from_wire(RESPONDER.later(found)).rcode() == dns.rcode.SERVFAIL
    answer = dns.message.from_wire(RESPONDER.truncated(found))
    assert answer.flags & dns.flags.TC
    assert answer.rcode() == dns.rcode.NOERROR


def test_an_address_that_is_called_like_the_server() -> None:
    other = DnsResponder("van", host="127.0.0.1", exists={("ns",)}.__contains__)
    found = other.read(dns.message.make_query("ns.van", "A").to_wire(), udp=True)
    assert isinstance(found, Question)
    assert found.address == "ns"


# --- garbage


def rcode(wire: bytes | None) -> int:
    assert wire is not None
    return dns.message.from_wire(wire).rcode()


QUERY = dns.message.make_query("orders-db.van", "A", use_edns=0).to_wire()


def test_octets_that_are_no_question() -> None:
    assert respond(b"") is None
    assert respond(QUERY[:11]) is None
    response = dns.message.make_response(dns.message.from_wire(QUERY)).to_wire()
    assert respond(response) is None
    assert rcode(respond(QUERY[:12])) == dns.rcode.FORMERR
    assert rcode(respond(QUERY[:-1])) == dns.rcode.FORMERR
    assert rcode(respond(QUERY + b"x")) == dns.rcode.FORMERR
    assert rcode(respond(QUERY + b"x" * MAX_QUESTION)) == dns.rcode.FORMERR
    assert rcode(respond(struct.pack("!6H", 7, 0, 0, 0, 0, 0))) == dns.rcode.FORMERR
    two = struct.pack("!6H", 7, 0, 2, 0, 0, 0) + 2 * b"\x01a\x03van\x00\x00\x01\x00\x01"
    assert rcode(respond(two)) == dns.rcode.FORMERR
    # A name that points to itself.
    assert rcode(respond(struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\x00\x01\x00\x01")) == dns.rcode.FORMERR


def test_other_operations() -> None:
    update = dns.update.UpdateMessage("van")
    update.add("a", 300, "A", "10.0.0.1")
    assert rcode(respond(update.to_wire())) == dns.rcode.NOTIMP
    for opcode in range(1, 16):
        wire = bytearray(QUERY)
        wire[2] = opcode << 3
        response = respond(bytes(wire))
        assert response is not None
        assert response[3] & 0xF == dns.rcode.NOTIMP
        assert (response[2] >> 3) & 0xF == opcode


@given(st.binary(max_size=600))
def test_any_octets(wire: bytes) -> None:
    response = respond(wire)
    assert response is None or response[:2] == wire[:2]


@given(st.lists(st.tuples(st.integers(0, len(QUERY) - 1), st.integers(0, 255)), max_size=6))
def test_a_question_with_octets_changed(changes: list[tuple[int, int]]) -> None:
    wire = bytearray(QUERY)
    for index, value in changes:
        wire[index] = value
    response = respond(bytes(wire))
    if response is not None:
        assert len(response) <= max(LEAST_UDP_RESPONSE, AMPLIFICATION * len(wire))
        dns.message.from_wire(response, ignore_trailing=False)
