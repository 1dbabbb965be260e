"""Any octets are a control message of routers or raise DecodeError; what is read is written so that it reads the same.

An engine that gets them, under any address, goes on.
"""

from __future__ import annotations

from harness import main

from van.amqp.errors import DecodeError
from van.routing.dialect.control import ALL_MOBILE, ALL_ROUTERS, HELLO_ADDRESS, decode_control, encode_control
from van.routing.link_state.engine import LinkStateEngine, LinkStateOwner
from van.routing.link_state.messages import ControlMessage, MobileAddress, MobileAddressUpdate

DECODER = {
    "van.routing.dialect.control": r"^(_decode|_open|_entries|_text|_number|_address|decode_control|EncodedAddresses)",
}

PLANTED = (
    # A map may be shorter than its own head.
    ("van.routing.dialect.control", "    elif code == code32 and pos + 9 <= end:", "    elif code == code32:"),
    # An address may be an empty list.
    (
        "van.routing.dialect.control",
        "    if type(value) is not list or not value:\n",
        "    if type(value) is not list:\n",
    ),
    # A sequence may be anything.
    (
        "van.routing.dialect.control",
        "    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_NUMBER:",
        "    if not isinstance(value, int) or isinstance(value, bool):",
    ),
)


class Owner(LinkStateOwner):
    """Tells nobody."""

    def send_control(self, neighbor: int, message: ControlMessage) -> None:
        assert neighbor == 1
        assert message.body

    def routes_changed(self) -> None:
        pass

    def addresses_changed(self, router_id: str, added: list[MobileAddress], removed: list[str]) -> None:
        assert added or removed

    def log(self, level: str, event: str, **fields: object) -> None:
        assert level in {"debug", "info", "warning", "error", "critical"}


def one_input(data: bytes) -> None:
    engine = LinkStateEngine("A", Owner(), instance=1)
    engine.neighbor_up(1, "B", 1, 0.0)
    for number, to in enumerate((HELLO_ADDRESS, ALL_ROUTERS, ALL_MOBILE, "_topo/0/A/qdrouter")):
        engine.receive(1, ControlMessage(to, "0/B", ("0/B",), data), number / 8)
        for _ in range(20):
            engine.handle_deadline(number / 8 + 0.1)
    try:
        message = decode_control(data)
        if isinstance(message, MobileAddressUpdate):
            for addresses in (message.exist or (), message.add, message.delete):
                assert len(list(addresses)) == len(addresses)
                assert all(address.key for address in addresses)
    except DecodeError:
        return
    octets = encode_control(message, ALL_ROUTERS)
    again = decode_control(octets)
    assert type(again) is type(message)
    assert again.id == message.id
    assert encode_control(again, ALL_ROUTERS) == octets


main(__name__)
