"""Whatever a peer makes of the frames of a router: nothing is raised, and nothing is left when it is gone."""

from __future__ import annotations

import random

import pytest

from tests.adaptors.routers import RouterPeer, Routers, bodies, neighbor_of, recorded
from tests.amqp.peer import begin
from van.adaptors.inter_router import InterRouterAdaptor
from van.amqp.framing import encode_frame
from van.amqp.performatives import Attach, Transfer
from van.amqp.sasl import AnonymousClient, SaslClient, SaslServer, anonymous
from van.routing.dialect.annotations import encode_annotations
from van.routing.dialect.control import HELLO_ADDRESS, encode_control
from van.routing.link_state.messages import Hello

FIRST = 4  # Headers, SASL and Open stay as they are.
CONNECTING = ["cap-x.0.c2s.bin", "cap-x.1.c2s.bin", "cap-x.2.c2s.bin"]


def spoil(frames: list[bytes], draw: random.Random) -> bytes:
    """Swap, repeat and drop frames, and change octets."""
    for _ in range(draw.randint(1, 4)):
        index, other = draw.randrange(FIRST, len(frames)), draw.randrange(FIRST, len(frames))
        how = draw.choice(["swap", "repeat", "drop", "change", "change"])
        if how == "swap":
            frames[index], frames[other] = frames[other], frames[index]
        elif how == "repeat":
            frames.insert(index, frames[other])
        elif how == "drop":
            del frames[index]
        else:
            octets = bytearray(frames[index])
            octets[draw.randrange(len(octets))] = draw.randrange(256)
            frames[index] = bytes(octets)
    return b"".join(frames)


@pytest.mark.parametrize("batch", range(10))
def test_spoiled_streams_of_routers(batch: int) -> None:
    for number in range(20):
        seed = 1000 * batch + number
        draw = random.Random(seed)
        network = Routers()
        connecting = draw.random() < 0.3
        node = network.router("B" if connecting else "A")
        node.client().receiver("_local/x", credit=10)
        if connecting:
            attaches = [frame.body for frame in bodies(recorded("cap-x.2.c2s.bin"), Attach)]
            names = iter([attach.name.removeprefix("qdlink.") for attach in attaches])
            node.router.tokens = lambda names=names: next(names, "more")  # type: ignore[misc]
            sasl = SaslClient([AnonymousClient()])
            adaptor = InterRouterAdaptor(node.router, node.accept().settings, accepting=False, sasl=sasl)
            data = spoil(recorded("cap-x.2.s2c.bin"), draw)
        else:
            adaptor = node.accept(sasl=SaslServer([anonymous()]))
            data = spoil(recorded(draw.choice(CONNECTING)), draw)
        while data and not adaptor.closed:
            size = draw.choice([1, 50, 300, 3000])
            network.now += draw.choice([0.0, 0.1, 1.0])
            adaptor.receive_data(data[:size], network.now)
            data = data[size:]
            if draw.random() < 0.05:
                adaptor.streams.open_stream()
            while adaptor.data_to_send(65536):
                pass
            node.router.wake_touched()
            node.router.handle_deadline(network.now)
        adaptor.receive_eof(network.now)
        adaptor.connection_lost(network.now)
        assert not adaptor.links, seed
        assert not node.router.neighbors, seed


def test_control_messages_that_are_not_settled_are_not_kept() -> None:
    peer = RouterPeer(Routers().router("A"))
    peer.send(begin())
    peer.pair(0, "qd.router")
    hello = encode_annotations(0, None, "0/B", ("0/B",)) + encode_control(Hello("B", 1, ("A",)), HELLO_ADDRESS)
    for number in range(20):
        transfer = Transfer(handle=1, delivery_id=number, delivery_tag=b"%d" % number, message_format=0, settled=False)
        peer.send_octets(encode_frame(0, transfer.encode() + (hello if number % 2 else b"junk")))
    neighbor = neighbor_of(peer.adaptor)
    assert neighbor.control_in is not None
    assert not neighbor.control_in.link.session.unsettled_in
