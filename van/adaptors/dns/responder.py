"""Answers questions of the DNS about one zone: octets in, octets out (RFC 1034, 1035, 2181, 2308, 6891, 8020).

What a name means is asked of its owner, who may have to do something first (open a port): so `read` says what a
question asks for, and `answer` makes the response when that is known. Nothing that a peer sends is raised.

    name.zone                    A, AAAA   the hosts of the ports that lead to the address
    name.zone                    SRV       their ports
    _service._proto.name.zone    SRV       their ports, those of the protocol (`_tcp`, `_udp`), whatever the service
    name.zone                    TXT       the address itself, `address=...`, and the scheme, `scheme=...`
    zone                         SOA, NS
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.NS
import dns.rdtypes.ANY.SOA
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
import dns.rrset

from van.adaptors.dns.names import address_of

# How long an answer holds, and one that says that there is nothing: names come on demand, in seconds.
TTL: Final = 30
NEGATIVE_TTL: Final = 5
# Over UDP a response is not larger than this whatever the client takes (the DNS flag day's size: no fragments), in
# octets...
MAX_UDP_RESPONSE: Final = 1232
# ...and than so many times the question, or this if that is more: whoever forges a source address gains little.
AMPLIFICATION: Final = 3
LEAST_UDP_RESPONSE: Final = 256
# Over UDP a client that says nothing of EDNS takes this, in octets (RFC 1035, 4.2.1).
PLAIN_UDP_RESPONSE: Final = 512
# A question is not longer than this, in octets: a name has 255, and the options of EDNS a few dozen.
MAX_QUESTION: Final = 1024
# Ports that one response tells of.
MAX_ENDPOINTS: Final = 16
_HEADER: Final = struct.Struct("!6H")
_SERVER: Final = "ns"


class Endpoint:
    """A port that leads to an address: `host` is an IPv4 or IPv6 address, `proto` is `tcp` or `udp`."""

    __slots__ = ("host", "port", "proto", "scheme")

    def __init__(self, host: str, port: int, scheme: str, proto: str) -> None:
        self.host = host
        self.port = port
        self.scheme = scheme
        self.proto = proto


class Question:
    """A question that its owner has to find an answer to: the ports of `address`.

    `proto` is what is asked for alone, empty for any. `needs_port`: whether what is asked for cannot be said before
    there is a port; else it is enough to know whether the address has a service.
    """

    __slots__ = ("address", "below", "kind", "limit", "message", "name", "needs_port", "proto")

    def __init__(self, message: dns.message.QueryMessage, name: dns.name.Name, kind: int, limit: int) -> None:
        self.message = message
        self.name = name
        self.kind = kind
        self.limit = limit
        self.address = ""
        self.proto = ""
        # The labels in front of the zone.
        self.below: tuple[str, ...] = ()
        self.needs_port = kind in (dns.rdatatype.A, dns.rdatatype.AAAA, dns.rdatatype.SRV)


class DnsResponder:
    """The server of one zone. host: of the server itself, for its own name; empty: it has none.

    exists: whether there is anything below a name that is no address itself (RFC 8020). serial: of the zone, any
    number.
    """

    def __init__(
        self,
        zone: str,
        *,
        host: str = "",
        ttl: int = TTL,
        serial: int = 1,
        exists: Callable[[tuple[str, ...]], bool] | None = None,
    ) -> None:
        self.zone = dns.name.from_text(zone)
        self.ttl = ttl
        self._host = host
        self._exists = exists
        self._server = dns.name.Name((_SERVER.encode(), *self.zone.labels))
        contact = dns.name.Name((b"hostmaster", *self.zone.labels))
        rdclass = dns.rdataclass.IN
        self._soa = dns.rdtypes.ANY.SOA.SOA(
            rdclass, dns.rdatatype.SOA, self._server, contact, serial & 0xFFFFFFFF, 3600, 600, 86400, NEGATIVE_TTL
        )
        self.counts: dict[str, int] = {}

    # -- questions -----------------------------------------------------------------------------------------------

    def read(self, wire: bytes, *, udp: bool) -> Question | bytes | None:
        """What comes of octets: a question, the response at once, or silence (None)."""
        if len(wire) < _HEADER.size:
            return self._counted("garbage", None)
        flags = _HEADER.unpack_from(wire)[1]
        if flags & dns.flags.QR:
            # A response: to answer it would be a conversation without end.
            return self._counted("garbage", None)
        if len(wire) > MAX_QUESTION:
            return self._counted("garbage", self._bare(wire, dns.rcode.FORMERR))
        if (flags >> 11) & 0xF != dns.opcode.QUERY:
            return self._counted("refused", self._bare(wire, dns.rcode.NOTIMP))
        try:
            message = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return self._counted("garbage", self._bare(wire, dns.rcode.FORMERR))
        if len(message.question) != 1 or not isinstance(message, dns.message.QueryMessage):
            return self._counted("garbage", self._bare(wire, dns.rcode.FORMERR))
        limit = 65535
        if udp:
            size = PLAIN_UDP_RESPONSE if message.edns < 0 else max(PLAIN_UDP_RESPONSE, message.payload)
            limit = min(size, MAX_UDP_RESPONSE, max(LEAST_UDP_RESPONSE, AMPLIFICATION * len(wire)))
        return self._look_at(message, limit)

    def _look_at(self, message: dns.message.QueryMessage, limit: int) -> Question | bytes | None:
        asked = message.question[0]
        kind = int(asked.rdtype)
        question = Question(message, asked.name, kind, limit)
        if message.edns > 0:
            return self._counted("refused", self._respond(question, dns.rcode.BADVERS))
        meta = kind == dns.rdatatype.ANY or 128 <= kind <= 255
        if asked.rdclass != dns.rdataclass.IN or meta or not asked.name.is_subdomain(self.zone):
            # Zone transfers and the like, ANY (RFC 8482: it is for amplification), and what is not ours.
            return self._counted("refused", self._respond(question, dns.rcode.REFUSED))
        try:
            below = tuple([label.decode("ascii") for label in asked.name.relativize(self.zone).labels])
        except UnicodeDecodeError:
            return self._counted("nothing", self.nothing(question))
        question.below = below
        if not below or (below == (_SERVER,) and not self._is_address(_SERVER)):
            return self._counted("answered", self._about_the_zone(question))
        proto = ""
        if below[0].startswith("_"):
            proto = below[1].lower() if len(below) > 2 else ""
            if proto not in ("_tcp", "_udp"):
                return self._counted("nothing", self._nothing_or_more(question))
            below = below[2:]
            if kind != dns.rdatatype.SRV:
                question.needs_port = False
        address = address_of(below)
        if address is None:
            return self._counted("nothing", self._nothing_or_more(question))
        question.address = address
        question.proto = proto[1:]
        return question

    def _is_address(self, label: str) -> bool:
        return self._exists is not None and self._exists((label,))

    # -- responses -----------------------------------------------------------------------------------------------

    def answer(self, question: Question, endpoints: Iterable[Endpoint]) -> bytes:
        """The response to a question whose address has a service, with the ports that lead there."""
        self._counted("answered", None)
        name = question.name
        kind = question.kind
        found = [each for each in endpoints if not question.proto or each.proto == question.proto][:MAX_ENDPOINTS]
        if question.proto and not found:
            # There is no such service, though there are others of the address.
            return self.nothing(question)
        records: list[dns.rdata.Rdata] = []
        additional: list[dns.rrset.RRset] = []
        if kind == dns.rdatatype.SRV:
            target = dns.name.Name(name.labels[2:]) if question.proto else name
            ports = list(dict.fromkeys(each.port for each in found))
            records += [
                dns.rdtypes.IN.SRV.SRV(dns.rdataclass.IN, dns.rdatatype.SRV, 0, 0, port, target) for port in ports
            ]
            for hosts in [dns.rdatatype.A, dns.rdatatype.AAAA]:
                section = _hosts(found, hosts)
                if section:
                    additional.append(self._rrset(target, section))
        elif question.proto:
            pass
        elif kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            records += _hosts(found, kind)
        elif kind == dns.rdatatype.TXT:
            records += _texts(question.address, found)
        return self._respond(question, dns.rcode.NOERROR, records, additional)

    def nothing(self, question: Question) -> bytes:
        """The response to a question for a name that there is not (RFC 2308)."""
        return self._respond(question, dns.rcode.NXDOMAIN)

    def later(self, question: Question) -> bytes:
        """The response where the answer could not be found in time: ask again, or somebody else."""
        return self._respond(question, dns.rcode.SERVFAIL)

    def truncated(self, question: Question) -> bytes:
        """The response that says: come by TCP."""
        question.limit = 0
        return self._respond(question, dns.rcode.NOERROR)

    def _nothing_or_more(self, question: Question) -> bytes:
        """A name that is no address: there may be names below it."""
        if self._exists is not None and self._exists(question.below):
            return self._respond(question, dns.rcode.NOERROR)
        return self.nothing(question)

    def missing(self, question: Question) -> bytes:
        """The response to a question for an address that has no service."""
        self._counted("nothing", None)
        return self._nothing_or_more(question)

    def _about_the_zone(self, question: Question) -> bytes:
        records: list[dns.rdata.Rdata] = []
        kind = question.kind
        if question.below:
            if self._host:
                records += _hosts([Endpoint(self._host, 0, "", "")], kind)
        elif kind == dns.rdatatype.SOA:
            records.append(self._soa)
        elif kind == dns.rdatatype.NS:
            records.append(dns.rdtypes.ANY.NS.NS(dns.rdataclass.IN, dns.rdatatype.NS, self._server))
        return self._respond(question, dns.rcode.NOERROR, records)

    def _respond(
        self,
        question: Question,
        rcode: int,
        records: Iterable[dns.rdata.Rdata] = (),
        additional: Iterable[dns.rrset.RRset] = (),
    ) -> bytes:
        response = dns.message.make_response(question.message, our_payload=MAX_UDP_RESPONSE)
        response.set_rcode(dns.rcode.Rcode(rcode))
        ours = rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
        if ours:
            response.flags |= dns.flags.AA
        records = list(records)
        if records:
            response.answer.append(self._rrset(question.name, records))
            response.additional.extend(additional)
        elif ours:
            response.authority.append(self._rrset(self.zone, [self._soa], NEGATIVE_TTL))
        wire = response.to_wire(max_size=65535)
        if len(wire) <= question.limit:
            return wire
        if response.additional and records:
            # Nobody asked for these.
            response.additional.clear()
            wire = response.to_wire(max_size=65535)
            if len(wire) <= question.limit:
                return wire
        response.answer.clear()
        response.authority.clear()
        response.additional.clear()
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=65535)

    def _rrset(self, name: dns.name.Name, records: list[dns.rdata.Rdata], ttl: int = -1) -> dns.rrset.RRset:
        return dns.rrset.from_rdata_list(name, self.ttl if ttl < 0 else ttl, records)

    def _bare(self, wire: bytes, rcode: int) -> bytes:
        """A response without anything, to what could not be read."""
        number, flags, *_ = _HEADER.unpack_from(wire)
        return _HEADER.pack(number, (flags & 0x7900) | dns.flags.QR | int(rcode), 0, 0, 0, 0)

    def _counted(self, what: str, response: bytes | None) -> bytes | None:
        self.counts[what] = self.counts.get(what, 0) + 1
        return response


def _hosts(endpoints: Iterable[Endpoint], kind: int) -> list[dns.rdata.Rdata]:
    """The hosts as records of one kind."""
    records: list[dns.rdata.Rdata] = []
    for host in dict.fromkeys(each.host for each in endpoints):
        address = ip_address(host.partition("%")[0])
        if kind == dns.rdatatype.A and isinstance(address, IPv4Address):
            records.append(dns.rdtypes.IN.A.A(dns.rdataclass.IN, dns.rdatatype.A, str(address)))
        elif kind == dns.rdatatype.AAAA and isinstance(address, IPv6Address):
            records.append(dns.rdtypes.IN.AAAA.AAAA(dns.rdataclass.IN, dns.rdatatype.AAAA, str(address)))
    return records


def _texts(address: str, endpoints: Iterable[Endpoint]) -> list[dns.rdata.Rdata]:
    """Keys and values as RFC 6763 writes them, one record for each scheme."""
    schemes = list(dict.fromkeys(each.scheme for each in endpoints))
    return [
        dns.rdtypes.ANY.TXT.TXT(
            dns.rdataclass.IN, dns.rdatatype.TXT, [f"address={address}".encode(), f"scheme={scheme}".encode()]
        )
        for scheme in schemes
    ]
