"""Networks of whole routers by bytes: adaptors back to back, as over loopback, without sockets and tasks.

What passes between two adaptors is what they would write on a socket, in the pieces in which they write it. A
connection holds `WIRE_CAPACITY` octets in each direction, as the buffers of a socket would. Nothing is lost on a
connection that stands, as TCP has it: with `loss` a piece arrives later, as if it had been sent again, and all behind
it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import count
from typing import Any, Final

from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.adaptors.inter_router import InterRouterAdaptor
from van.routing.address import AddressConfig, Distribution
from van.routing.link_state.engine import Timers
from van.routing.router import Router
from van.testing.applications import Application, ClientAdaptor
from van.testing.network import Edge, End, Host, Station, VirtualNetwork

WIRE_CAPACITY: Final = 262144
READ_SIZE: Final = 65536
# A lost piece is sent again after so many seconds, as TCP does at first.
RESEND_SECONDS: Final = 0.2
# An application is on the same machine as its router.
LOCAL_DELAY: Final = 0.0001


class Plug:
    """One side of a connection: an adaptor, and what is on its way to it."""

    __slots__ = ("adaptor", "arrival", "delay", "held", "in_flight", "open", "peer", "silent", "station")

    peer: Plug

    def __init__(self, adaptor: AmqpAdaptor | ClientAdaptor, station: RouterStation | None, delay: float) -> None:
        self.adaptor = adaptor
        # None: an application's side.
        self.station = station
        self.delay = delay
        self.open = True
        self.silent = False
        # Octets that were written towards this side and have not arrived.
        self.in_flight = 0
        self.held: list[bytes] = []
        self.arrival = 0.0

    def unsettled(self) -> int:
        """Deliveries on this connection that are not settled at this end, in both directions."""
        sessions = self.adaptor.connection.sessions
        return sum(len(session.unsettled_in) + len(session.unsettled_out) for session in sessions)


class RouterStation(Station):
    """One life of a whole router. `log` is what it logged, with the time."""

    router: Router

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.plugs: dict[Plug, None] = {}
        self.log: list[tuple[str, str, dict[str, object]]] = []

    def next_deadline(self) -> float:
        return min([self.router.next_deadline(), *(plug.adaptor.next_deadline() for plug in self.plugs)])

    def handle_deadline(self, now: float) -> None:
        router = self.router
        router.now = now
        for plug in list(self.plugs):
            if plug.adaptor.next_deadline() <= now:
                plug.adaptor.handle_deadline(now)
        router.handle_deadline(now)
        router.wake_touched()


class RouterNetwork(VirtualNetwork[RouterStation]):
    """Whole routers, their connections, and applications attached to them.

    addresses: distributions by pattern, the same at every router. The other parameters are `VirtualNetwork`'s.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        addresses: dict[str, str] | None = None,
        timers: Timers | None = None,
        delay: float = 0.001,
        jitter: float = 0.5,
        loss: float = 0.0,
        reconnect: tuple[float, float] = (0.02, 0.5),
        offset: float = 0.0,
        drift: float = 0.0,
    ) -> None:
        super().__init__(
            seed, delay=delay, jitter=jitter, loss=loss, reconnect=reconnect, offset=offset, drift=drift
        )
        self.addresses = addresses or {}
        self.timers = timers
        self.applications: list[Application] = []
        self.octets = 0
        self._tokens = count(1)
        self._plug_of: dict[Application, Plug] = {}

    # -- applications --------------------------------------------------------------------------------------------

    def application(self, router: str, name: str | None = None) -> Application:
        """Attach an application to a router, now and after every start of it."""
        application = Application(name or f"application-{len(self.applications)}", router)
        self.applications.append(application)
        self._attach(application, None)
        return application

    def _attach(self, application: Application, _: None) -> None:
        station = self.stations.get(application.router)
        if station is None or application.connected:
            return
        now = station.clock.local(self.now)
        self._connections += 1
        adaptor = AmqpAdaptor(
            station.router,
            ConnectionSettings(idle_timeout=0.0),
            number=self._connections,
            log=partial(self._log, station),
            now=now,
        )
        client = application.connect(self.now)
        its = self._plug(adaptor, station, client, None, LOCAL_DELAY)[1]
        self._plug_of[application] = its
        application.on_queued = partial(self._flush, its)
        self._flush(its)

    def _leave(self, application: Application) -> None:
        plug = self._plug_of.pop(application, None)
        if plug is not None:
            plug.open = plug.peer.open = False
            application.lost()
            self._push(self.now + self.random.uniform(*self.reconnect), self._attach, application, None)

    # -- octets --------------------------------------------------------------------------------------------------

    def _plug(
        self,
        a: AmqpAdaptor,
        of_a: RouterStation,
        b: AmqpAdaptor | ClientAdaptor,
        of_b: RouterStation | None,
        delay: float,
    ) -> tuple[Plug, Plug]:
        plugs = Plug(a, of_a, delay), Plug(b, of_b, delay)
        for plug, peer in (plugs, plugs[::-1]):
            plug.peer = peer
            plug.adaptor.on_wake = partial(self._flush, plug)
            if plug.station is not None:
                plug.station.plugs[plug] = None
        return plugs

    def _flush(self, plug: Plug) -> None:
        """Put on the wire what the adaptor wants to write and the wire takes."""
        peer = plug.peer
        while plug.open and peer.in_flight < WIRE_CAPACITY:
            chunks = plug.adaptor.data_to_send(READ_SIZE)
            if not chunks:
                return
            data = b"".join(chunks)
            peer.in_flight += len(data)
            if peer.silent:
                peer.held.append(data)
            else:
                self._transmit(peer, data)

    def _transmit(self, plug: Plug, data: bytes) -> None:
        delay = plug.delay * (1 + self.jitter * self.random.random())
        if self.loss and self.random.random() < self.loss:
            delay += RESEND_SECONDS
        plug.arrival = max(self.now + delay, plug.arrival)
        self._push(plug.arrival, self._arrive, plug, data)

    def _arrive(self, plug: Plug, data: bytes) -> None:
        if not plug.open:
            return
        station = plug.station
        if station is not None and station.paused:
            station.backlog.append((self._arrive, (plug, data)))
            return
        plug.in_flight -= len(data)
        self.octets += len(data)
        if station is None:
            plug.adaptor.receive_data(data, self.now)
            self._flush(plug)
        else:
            now = station.clock.local(self.now)
            plug.adaptor.receive_data(data, now)
            station.router.wake_touched()
            self._flush(plug)
            self._end_closed(station)
            self._schedule(station)
        # There is room on the wire again.
        peer = plug.peer
        if peer.open and (peer.station is None or not peer.station.paused):
            self._flush(peer)

    def _end_closed(self, station: RouterStation) -> None:
        """End the connections whose adaptors are through, as drivers do."""
        for plug in [plug for plug in station.plugs if plug.open and plug.adaptor.closed]:
            self._flush(plug)
            self._closed(plug)

    def _closed(self, plug: Plug) -> None:
        for edge in self.edges:
            if edge.ends is not None and any(end.state is plug for end in edge.ends):
                self._drop(edge)
                self._try(edge)
                return
        for application, its in list(self._plug_of.items()):
            if its is plug or its.peer is plug:
                self._leave(application)
                self._gone(plug if plug.station is not None else plug.peer)

    def _gone(self, plug: Plug) -> None:
        """The router hears that a connection is over."""
        station = plug.station
        if station is None or not station.running or plug not in station.plugs:
            return
        del station.plugs[plug]
        now = station.clock.local(self.now)
        plug.open = False
        plug.adaptor.receive_eof(now)
        plug.adaptor.on_wake = _nothing
        plug.adaptor.connection_lost(now)
        station.router.wake_touched()
        self._end_closed(station)
        self._schedule(station)

    # -- faults --------------------------------------------------------------------------------------------------

    def silence(self, edge: Edge, towards: str | None = None) -> None:
        super().silence(edge, towards)
        for end in edge.ends or ():
            end.state.silent = end.silent

    def mend(self, edge: Edge) -> None:
        super().mend(edge)
        for end in edge.ends or ():
            plug: Plug = end.state
            plug.silent = False
            held, plug.held = plug.held, []
            for data in held:
                self._transmit(plug, data)

    # -- what VirtualNetwork asks for ----------------------------------------------------------------------------

    def _log(self, station: RouterStation, level: str, event: str, **fields: object) -> None:
        station.log.append((level, event, {"at": round(self.now, 6), **fields}))

    def _token(self) -> str:
        return f"{next(self._tokens):015d}"

    def _configured(self) -> Iterable[AddressConfig]:
        return [AddressConfig(pattern, Distribution(name)) for pattern, name in self.addresses.items()]

    def _boot(self, host: Host, instance: int, sequence: int) -> RouterStation:
        station = RouterStation(host)
        station.router = Router(
            host.id,
            tokens=self._token,
            addresses=self._configured(),
            mode="interior",
            instance=instance,
            sequence=sequence,
            timers=self.timers,
            log=partial(self._log, station),
            now=host.clock.local(self.now),
        )
        for application in self.applications:
            if application.router == host.id:
                self._push(self.now + self.random.uniform(*self.reconnect), self._attach, application, None)
        return station

    def _halt(self, station: RouterStation) -> None:
        for application, plug in list(self._plug_of.items()):
            if plug.peer.station is station:
                self._leave(application)
        for plug in station.plugs:
            plug.open = False
            plug.adaptor.on_wake = _nothing

    def _established(self, connecting: End, accepting: End) -> None:
        adaptors = []
        for end in (connecting, accepting):
            station: RouterStation = end.station
            adaptors.append(
                InterRouterAdaptor(
                    station.router,
                    ConnectionSettings(idle_timeout=16.0),
                    cost=end.edge.cost,
                    correlator=self._token() if end is connecting else "",
                    number=end.number,
                    accepting=end is accepting,
                    log=partial(self._log, station),
                    now=station.clock.local(self.now),
                )
            )
        plugs = self._plug(adaptors[0], connecting.station, adaptors[1], accepting.station, connecting.delay)
        for end, plug in zip((connecting, accepting), plugs, strict=True):
            end.state = plug
            end.station.router.wake_touched()
            self._flush(plug)
            self._schedule(end.station)

    def _drop(self, edge: Edge) -> None:
        for end in edge.ends or ():
            end.state.open = False
        super()._drop(edge)

    def _lost(self, end: End) -> None:
        self._gone(end.state)

    def _woken(self, station: RouterStation) -> None:
        self._end_closed(station)


def _nothing(*_: Any) -> None:
    """A wire that is cut."""

