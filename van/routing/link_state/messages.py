"""What routers tell each other: the six control messages, and the envelope in which they travel.

Only meaning lives here; which octets a message becomes is the dialect's matter (`van.routing.dialect.control`). Decoded
messages are shared (a router hears the same octets from several sides), so nobody changes one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

# The version of HELLO, RA, LSR and LSU, and that of MAU and MAR, which routers of the native family write. Messages of
# higher versions are ignored.
PROTOCOL_VERSION: Final = 1
MOBILE_PROTOCOL_VERSION: Final = 2

# There is one area.
AREA: Final = "0"


class ControlMessage:
    """One control message on its way.

    `to` is its address, `ingress` the router that made it and `trace` each router that it passed, the oldest first,
    both as `0/<id>`; whoever sends appends itself. `body` is the message without the router annotations, `decoded` what
    it says, once somebody has looked.
    """

    __slots__ = ("body", "decoded", "ingress", "to", "trace")

    def __init__(self, to: str, ingress: str | None, trace: tuple[str, ...], body: bytes) -> None:
        self.to = to
        self.ingress = ingress
        self.trace = trace
        self.body = body
        self.decoded: Control | None = None

    def __repr__(self) -> str:
        return f"<ControlMessage to {self.to} from {self.ingress} by {', '.join(self.trace)}: {len(self.body)} octets>"


class MobileAddress:
    """An address that has receivers at a router.

    `key` is its class and text (`Mmy.q`, `HE` for the edge router E), `treatment` the number of its distribution in
    the peers' code, `in_links` how many senders it has there, `mesh` the edge mesh that all its receivers sit in, if
    there is one. Never changed: another state is another object.
    """

    __slots__ = ("in_links", "key", "mesh", "treatment")

    def __init__(self, key: str, treatment: int, in_links: int, mesh: str | None = None) -> None:
        self.key = key
        self.treatment = treatment
        self.in_links = in_links
        self.mesh = mesh

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MobileAddress):
            return NotImplemented
        return (
            self.key == other.key
            and self.treatment == other.treatment
            and self.in_links == other.in_links
            and self.mesh == other.mesh
        )

    def __hash__(self) -> int:
        return hash((self.key, self.treatment, self.in_links, self.mesh))

    def __repr__(self) -> str:
        return f"MobileAddress({self.key!r}, {self.treatment}, {self.in_links}, {self.mesh!r})"


class Control:
    """What all control messages have: who says it, in which version and area.

    Versions above `newest_version` mean something that is not known here.
    """

    __slots__ = ("area", "id", "newest_version", "protocol_version")

    def __init__(self, id: str, protocol_version: int, area: str) -> None:  # noqa: A002 - the field's name
        self.id = id
        self.protocol_version = protocol_version
        self.newest_version = PROTOCOL_VERSION
        self.area = area


class Hello(Control):
    """HELLO, to neighbours only: I am here, and `seen` are those whom I hear."""

    __slots__ = ("instance", "seen")

    def __init__(
        self,
        id: str,  # noqa: A002
        instance: int,
        seen: tuple[str, ...],
        protocol_version: int = PROTOCOL_VERSION,
        area: str = AREA,
    ) -> None:
        super().__init__(id, protocol_version, area)
        self.instance = instance
        self.seen = seen


class RouterAdvertisement(Control):
    """RA, to all: my link state and my addresses have these sequence numbers."""

    __slots__ = ("instance", "link_state_sequence", "mobile_sequence")

    def __init__(
        self,
        id: str,  # noqa: A002
        instance: int,
        link_state_sequence: int,
        mobile_sequence: int,
        protocol_version: int = PROTOCOL_VERSION,
        area: str = AREA,
    ) -> None:
        super().__init__(id, protocol_version, area)
        self.instance = instance
        self.link_state_sequence = link_state_sequence
        self.mobile_sequence = mobile_sequence


class LinkStateRequest(Control):
    """LSR, to one router: tell me your link state."""

    __slots__ = ()

    def __init__(self, id: str, protocol_version: int = PROTOCOL_VERSION, area: str = AREA) -> None:  # noqa: A002
        super().__init__(id, protocol_version, area)


class LinkStateUpdate(Control):
    """LSU, to one router or to all: the neighbours of `id` and what it costs to reach them.

    `digest` is a number by which two link states are told apart quickly.
    """

    __slots__ = ("digest", "instance", "link_state_sequence", "peers")

    def __init__(
        self,
        id: str,  # noqa: A002
        instance: int,
        link_state_sequence: int,
        peers: dict[str, int],
        protocol_version: int = PROTOCOL_VERSION,
        area: str = AREA,
    ) -> None:
        super().__init__(id, protocol_version, area)
        self.instance = instance
        self.link_state_sequence = link_state_sequence
        self.peers = peers
        self.digest = digest_of(id, peers)


class MobileAddressUpdate(Control):
    """MAU: the addresses of `id` change by `add` and `delete`, or are exactly those that `exist`."""

    __slots__ = ("add", "delete", "exist", "mobile_sequence")

    def __init__(
        self,
        id: str,  # noqa: A002
        mobile_sequence: int,
        *,
        exist: Collection[MobileAddress] | None = None,
        add: Collection[MobileAddress] = (),
        delete: Collection[MobileAddress] = (),
        protocol_version: int = MOBILE_PROTOCOL_VERSION,
        area: str = AREA,
    ) -> None:
        super().__init__(id, protocol_version, area)
        self.newest_version = MOBILE_PROTOCOL_VERSION
        self.mobile_sequence = mobile_sequence
        self.exist = exist
        self.add = add
        self.delete = delete


class MobileAddressRequest(Control):
    """MAR, to one router: tell me your addresses; I have them as of `have_sequence`."""

    __slots__ = ("have_sequence",)

    def __init__(
        self,
        id: str,  # noqa: A002
        have_sequence: int,
        protocol_version: int = MOBILE_PROTOCOL_VERSION,
        area: str = AREA,
    ) -> None:
        super().__init__(id, protocol_version, area)
        self.newest_version = MOBILE_PROTOCOL_VERSION
        self.have_sequence = have_sequence


def digest_of(router_id: str, peers: dict[str, int]) -> int:
    """A number that is the same for the same neighbours and costs of a router, and otherwise another."""
    return hash((router_id, *sorted(peers.items())))
