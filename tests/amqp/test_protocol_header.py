"""Protocol headers (2.2): which are taken, what a wrong one is answered with, and that the stream then ends."""

from __future__ import annotations

import pytest

from tests.amqp.pair import Endpoint, Pair
from tests.amqp.peer import Peer, open_
from van.amqp.errors import ErrorCondition
from van.amqp.events import ConnectionClosed
from van.amqp.framing import AMQP_HEADER, SASL_HEADER, TLS_HEADER
from van.amqp.performatives import Open
from van.amqp.sasl import AnonymousClient, AnonymousServer, PlainClient, PlainServer, SaslClient, SaslServer


def server(*, required: bool = True) -> Endpoint:
    return Endpoint(sasl=SaslServer([AnonymousServer()]), sasl_required=required)


def test_the_accepting_side_answers_the_header_with_the_same(octets: bool) -> None:
    peer = Peer(octets=octets)
    assert peer.take() == []
    peer.send(AMQP_HEADER)
    assert peer.take() == [AMQP_HEADER]


def test_the_side_that_connects_writes_its_header_first() -> None:
    assert Peer(Endpoint(accepting=False)).take() == [AMQP_HEADER]
    assert Peer(Endpoint(sasl=SaslClient([AnonymousClient()]))).take() == [SASL_HEADER]


@pytest.mark.parametrize(
    ("sent", "word"),
    [
        (b"AMQP\x00\x00\x09\x01", "version 0.9.1"),
        (b"AMQP\x01\x01\x00\x0a", "protocol id 1"),
        (TLS_HEADER, "TLS"),
        (SASL_HEADER, "protocol id 3"),
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"PRI * HTTP/2.0\r\n", "HTTP/2"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "TLS handshake"),
        (b"SSH-2.0-OpenSSH", "53 53 48"),
    ],
)
def test_another_header_is_answered_with_ours_and_the_stream_ends(sent: bytes, word: str, octets: bool) -> None:
    peer = Peer(octets=octets)
    peer.send(sent)
    assert peer.take() == [AMQP_HEADER]
    (closed,) = peer.engine.seen(ConnectionClosed)
    assert closed.condition == ErrorCondition.FRAMING_ERROR
    assert word in closed.description
    assert not closed.by_peer
    assert peer.engine.connection.closed


def test_a_bare_header_where_sasl_is_required_is_answered_with_that_of_sasl(octets: bool) -> None:
    peer = Peer(server(), octets=octets)
    peer.send(AMQP_HEADER, open_())
    assert peer.take() == [SASL_HEADER]
    assert peer.engine.connection.closed


def test_a_bare_header_is_taken_where_sasl_is_offered_but_not_required(octets: bool) -> None:
    peer = Peer(server(required=False), octets=octets)
    peer.send(AMQP_HEADER, open_())
    header, answer = peer.take()
    assert header == AMQP_HEADER
    assert isinstance(answer, Open)


def test_a_server_without_sasl_cuts_off_a_client_that_wants_it() -> None:
    pair = Pair(Endpoint(sasl=SaslClient([AnonymousClient()])), Endpoint())
    pair.run()
    assert pair.left.connection.closed
    assert pair.right.connection.closed
    assert pair.left.closed_with == ErrorCondition.FRAMING_ERROR


def test_sasl_comes_first_and_then_the_amqp_header(octets: bool) -> None:
    pair = Pair(Endpoint("left", sasl=SaslClient([AnonymousClient()])), server(), octets=octets).open()
    assert pair.left.connection.remote_open is not None
    assert pair.right.connection.remote_open is not None
    assert pair.right.connection.identity == pair.left.connection.identity == ""


def test_a_refused_client_hears_so_and_both_end(octets: bool) -> None:
    client = Endpoint("left", sasl=SaslClient([PlainClient("user", "wrong")], encrypted=True))
    guarded = Endpoint(sasl=SaslServer([PlainServer(lambda user, password: False)]), sasl_required=True)
    pair = Pair(client, guarded, octets=octets)
    pair.run()
    for endpoint in (client, guarded):
        (closed,) = endpoint.seen(ConnectionClosed)
        assert closed.condition == ErrorCondition.UNAUTHORIZED_ACCESS
        assert endpoint.connection.closed
    assert client.seen(ConnectionClosed)[0].by_peer
    assert not guarded.seen(ConnectionClosed)[0].by_peer


def test_garbage_behind_a_good_sasl_exchange_ends_the_stream(octets: bool) -> None:
    peer = Peer(server(), octets=octets)
    client = Endpoint(sasl=SaslClient([AnonymousClient()]))
    peer.send(client.take())
    client.receive(peer.engine.take())
    peer.send(client.take().removesuffix(AMQP_HEADER), SASL_HEADER)
    assert peer.engine.closed_with == ErrorCondition.FRAMING_ERROR
    assert peer.engine.connection.closed


def test_nothing_is_said_about_less_than_a_header() -> None:
    peer = Peer()
    peer.send(AMQP_HEADER[:7])
    assert peer.take() == []
    assert not peer.engine.connection.closed
