"""What services of all protocols have in common: one `[[service]]` of the site file, without I/O.

A *listening* service has a port here that leads to an address; a *connecting* service stands for a server behind an
address. Ports are opened and connections are made by whoever assembles the site (`van.router.services`): it asks a
listening service for the adaptor of every connection that was accepted, and is asked by a connecting service to `dial`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, Protocol, TypeAlias

from van.adaptors.amqp import Log
from van.amqp.native import mypyc_attr
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointReceiverLink, EndpointSession
from van.routing.router import Router

# The credit of the link by which a listening service knows whether its address can be reached.
WATCH_CAPACITY: Final = 1
# At most one line a second about connections that went wrong: a port scan must not fill the log.
COMPLAINT_INTERVAL: Final = 1.0


class PeerInfo:
    """What is known of a connection of a service when its transport stands.

    peer and local are host and port; `alpn` is what TLS has agreed upon, empty for nothing; `tls_subject` the verified
    certificate's; `tls_version` and `tls_cipher` are for management.
    """

    __slots__ = ("alpn", "encrypted", "local", "peer", "tls_cipher", "tls_subject", "tls_version")

    def __init__(
        self,
        peer: tuple[str, int] = ("", 0),
        local: tuple[str, int] = ("", 0),
        *,
        encrypted: bool = False,
        alpn: str = "",
        tls_subject: str = "",
    ) -> None:
        self.peer = peer
        self.local = local
        self.encrypted = encrypted
        self.alpn = alpn
        self.tls_subject = tls_subject
        self.tls_version = ""
        self.tls_cipher = ""


MakeAdaptor: TypeAlias = Callable[[PeerInfo], Adaptor]
"""Called when a connection stands."""

DialFailed: TypeAlias = Callable[[str], None]
"""Called with the reason, in words, when a connection could not be made."""


class Dial(Protocol):
    """Asks for a connection to the server; either of the two is called once, later, in a batch of its own.

    alpn: what to offer to a server behind TLS, in place of what the service's settings say; empty for those.
    """

    def __call__(self, connected: MakeAdaptor, failed: DialFailed, alpn: tuple[str, ...] = ()) -> None: ...


def nobody_dials(connected: MakeAdaptor, failed: DialFailed, alpn: tuple[str, ...] = ()) -> None:
    """Stand in for `dial` until the service is assembled."""
    failed("the service has not been started")


@mypyc_attr(allow_interpreted_subclasses=True)
class Service(Adaptor):
    """One service: an adaptor without a connection, for the links that are its own and not of one connection.

    router: the core. name: the service's, for management and the log. address: the text of the address. log: called
    with a level, an event and fields. The counts are for management.
    """

    def __init__(self, router: Router, name: str, address: str, log: Log) -> None:
        super().__init__()
        self.router = router
        self.name = name
        self.address = address
        self.log = log
        self.session = EndpointSession(router, self, name)
        self.connections = 0
        self.connections_opened = 0
        self.octets_in = 0
        self.octets_out = 0
        self.stopped = False
        self.on_wake = self.work

    def work(self) -> None:
        """The core has something to say: see `EndpointSession`. Called in the course of `Router.wake_touched`."""
        raise NotImplementedError

    def sessions(self) -> list[EndpointSession]:
        """The sessions of links that are of none of its connections."""
        return [self.session]

    def under_way(self) -> int:
        """How many requests somebody waits for: a site that ends lets them have their time, like deliveries."""
        return 0

    def stop(self) -> None:
        """Take no more, and give up the service's own links. Connections that there are end by themselves."""
        if not self.stopped:
            self.stopped = True
            self.session.close()


class Complaints:
    """Lines of the log about connections that went wrong: one a second, which counts those that were left out."""

    __slots__ = ("_next", "_service", "_suppressed")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._suppressed = 0
        self._next = -inf

    def complain(self, event: str, reason: str, peer: tuple[str, int]) -> None:
        """Say what went wrong with a connection. peer: its other end, an empty host for none."""
        service = self._service
        now = service.router.now
        if now < self._next:
            self._suppressed += 1
            return
        self._next = now + COMPLAINT_INTERVAL
        fields: dict[str, object] = {"service": service.name, "address": service.address, "reason": reason}
        if peer[0]:
            fields["peer"] = f"{peer[0]}:{peer[1]}"
        if self._suppressed:
            fields["similar_before"] = self._suppressed
            self._suppressed = 0
        service.log("warning", event, **fields)


@mypyc_attr(allow_interpreted_subclasses=True)
class ListeningService(Service):
    """A port here that leads to an address. `on_reachable` is called when `reachable` may have changed."""

    def __init__(self, router: Router, name: str, address: str, log: Log) -> None:
        super().__init__(router, name, address, log)
        self.on_reachable: Callable[[], None] = _nobody_asks
        self.watch: EndpointReceiverLink = self.session.attach_incoming(address, WATCH_CAPACITY)

    @property
    def reachable(self) -> bool:
        """Whether somebody in the network receives what is sent to the address."""
        return self.watch.reachable

    def work(self) -> None:
        session = self.session
        session.look()
        if session.credited:
            session.credited.clear()
            self.on_reachable()

    def accept(self, info: PeerInfo) -> Adaptor:
        """An adaptor for a connection that was accepted."""
        raise NotImplementedError


Later: TypeAlias = Callable[[float, Callable[[], None]], None]
"""Has a function called after so many seconds, in a batch of its own."""


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectingService(Service):
    """A server behind an address. `dial` and `later` are set by whoever can make connections to it."""

    def __init__(self, router: Router, name: str, address: str, log: Log) -> None:
        super().__init__(router, name, address, log)
        self.dial: Dial = nobody_dials
        self.later: Later = _never


def _nobody_asks() -> None:
    """Stand in for `on_reachable`."""


def _never(seconds: float, function: Callable[[], None]) -> None:
    """Stand in for `later` until the service is assembled."""
