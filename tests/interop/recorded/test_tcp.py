"""Flows of TCP that two skrouterds once had: our services read their streams, and ours begin octet for octet so."""

from __future__ import annotations

import pytest

from tests.interop.recorded.replay import Replay, Replayed, correlator, frames, link_names, messages
from van.adaptors.service import DialFailed, MakeAdaptor, PeerInfo
from van.adaptors.stream_window import WINDOW, SendWindow
from van.adaptors.tcp.connecting import TcpConnectingService
from van.adaptors.tcp.head import client_head, read_head, server_head
from van.adaptors.tcp.listening import TcpListeningService
from van.amqp.delivery_state import ACCEPTED, Modified, Received, Released
from van.amqp.performatives import Disposition
from van.routing.adaptor import Adaptor

CONTROL = "cap-skr-12.0"
ANSWERS = "SmVzGMmtJw0FOEE"
RECORDINGS = [f"{CONTROL}.c2s", f"{CONTROL}.s2c", "cap-x.0.c2s", "cap-x.0.s2c"]
BODY = b"\x00\x53\x77\x40"


def heads() -> list[bytes]:
    """What stands in front of the octets of every flow that was recorded."""
    found = []
    for name in RECORDINGS:
        for message in messages(frames(name)):
            if b"application/octet-stream" in message.octets:
                body = message.body
                found.append(body[: body.index(BODY) + len(BODY)])
    return found


def test_there_are_streams_of_both_kinds() -> None:
    assert len(heads()) == 4


@pytest.mark.parametrize("number", range(4))
def test_heads_are_read_and_written_as_they_were(number: int) -> None:
    octets = heads()[number]
    for more in (b"", b"GET hello"):
        found = read_head(octets + more, False)
        assert found is not None
        head, end = found
        assert end == len(octets)
        assert head.ours
    again = client_head(head.to, head.reply_to, head.correlation) if head.reply_to else server_head(head.to)
    assert again == octets


class End:
    """The program at the socket of an adaptor."""

    def __init__(self, adaptor: Adaptor) -> None:
        self.adaptor = adaptor
        self.heard = b""
        self.ended = False
        adaptor.on_wake = self.flush

    def flush(self) -> None:
        while chunks := self.adaptor.data_to_send(65536):
            self.heard += b"".join(chunks)
        self.ended = self.adaptor.write_ended


def listener() -> tuple[Replayed, Replay]:
    """We are A, and B connects."""
    replayed = Replayed("A", tokens=["wNAwE", ANSWERS])
    return replayed, replayed.listener(f"{CONTROL}.c2s")


def test_the_answer_of_a_recorded_server_comes_to_our_client() -> None:
    replayed, replay = listener()
    service = TcpListeningService(replayed.router, "in", "svc.echo", replayed.log)
    reachable = []
    service.on_reachable = lambda: reachable.append(service.reachable)
    replay.until(153)
    assert reachable[-1:] == [True]
    client = End(service.accept(PeerInfo(("127.0.0.1", 1), ("127.0.0.1", 2))))
    client.flush()
    replayed.run()
    replay.to_end()
    assert client.heard == b"echo:GET hellobye"
    assert (client.ended, client.adaptor.closed) == (True, False)
    client.adaptor.receive_eof(replayed.now)
    assert (client.adaptor.closed, client.adaptor.resets) == (True, False)


def test_a_recorded_client_reaches_our_server() -> None:
    name = f"{CONTROL}.c2s"
    replayed = Replayed("B", tokens=link_names(name)[:22])
    service = TcpConnectingService(replayed.router, "out", "svc.echo", replayed.log)
    dialled: list[MakeAdaptor] = []

    def dial(connected: MakeAdaptor, failed: DialFailed, alpn: tuple[str, ...] = ()) -> None:
        dialled.append(connected)

    service.dial = dial
    replay = replayed.connector(f"{CONTROL}.s2c", correlator(name))
    replay.until(157)
    (connected,) = dialled
    server = End(connected(PeerInfo()))
    server.flush()
    replayed.run()
    replay.to_end()
    assert server.heard == b"GET hello"
    assert server.ended
    # As B said it then, on the streaming link that A had opened.
    (theirs,) = [
        frame.performative
        for frame in frames(name)
        if isinstance(frame.performative, Disposition) and frame.channel == 11 and frame.performative.role
    ]
    assert theirs.settled
    assert theirs.state == ACCEPTED
    assert [said[1:] for said in replay.dispositions() if said[0] not in (0, 5)] == [(0, None, True, ACCEPTED)]


@pytest.mark.parametrize("refuses", [True, False])
def test_a_recorded_client_whose_server_is_not_there(refuses: bool) -> None:
    name = f"{CONTROL}.c2s"
    replayed = Replayed("B", tokens=link_names(name)[:22])
    service = TcpConnectingService(replayed.router, "out", "svc.echo", replayed.log)

    def dial(connected: MakeAdaptor, failed: DialFailed, alpn: tuple[str, ...] = ()) -> None:
        failed("connection refused")

    service.dial = dial
    if not refuses:
        service.stop()
    replay = replayed.connector(f"{CONTROL}.s2c", correlator(name))
    replay.to_end()
    outcomes = [type(said[4]) for said in replay.dispositions() if said[0] not in (0, 5)]
    assert outcomes == [Modified if refuses else Released]


def test_recorded_acknowledgments_keep_the_window_open() -> None:
    """B took 3 000 000 octets of A, and said so as it went on."""
    said = [
        frame.performative.state
        for frame in frames("cap-x.1.c2s")
        if isinstance(frame.performative, Disposition)
    ]
    offsets = [int(state.section_offset or 0) for state in said if isinstance(state, Received)]
    assert offsets == [541878, 1071037, 1592253, 2146045, 2724537]
    window = SendWindow()
    left = 3_000_000
    for state in said:
        sent = min(window.room(), left)
        left -= sent
        window.sent += sent
        assert window.take(state) == isinstance(state, Received)
        assert 0 <= window.room() <= WINDOW
    assert left == 0
