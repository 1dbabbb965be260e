"""One MQTT connection joined to the router core: what the transport drives.

The protocol is `connection.py`'s, what is behind it `client.py`'s; here octets go from one to the other, the connection
is not read while its messages find no room, and the log is written.
"""

from __future__ import annotations

from math import inf
from typing import Final

from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.client import Client
from van.adaptors.mqtt.connection import ASSIGNED, ConnectionOwner, ServerConnection
from van.adaptors.mqtt.packets import MQTT_5, Connect, Publish, Subscription
from van.adaptors.mqtt.reason import MqttError
from van.adaptors.mqtt.service import Admit, MqttService
from van.adaptors.mqtt.session import Session
from van.adaptors.service import PeerInfo
from van.routing.adaptor import Adaptor

# A client whose messages find no room is not read, so it cannot acknowledge any; where others wait for it, its own
# messages may be among them. After so many seconds what waits for it is kept here instead, and others go on.
HELD_BACK_SECONDS: Final = 5.0
# How long a client that was told the end may take to hang up, in seconds. A connection that is closed while octets of
# the client wait to be read is reset, and a client that is reset may never see why.
LINGER_SECONDS: Final = 2.0


class _Owner(ConnectionOwner):
    """What the connection asks: of the service, and of its client once it has one."""

    __slots__ = ("adaptor", "client", "existed")

    def __init__(self, adaptor: MqttAdaptor) -> None:
        self.adaptor = adaptor
        self.client: Client | None = None
        # Filters that were subscribed to before.
        self.existed: set[str] = set()

    def _client(self) -> Client:
        client = self.client
        assert client is not None
        return client

    def open_session(self, connect: Connect, client_id: str) -> Session:
        adaptor = self.adaptor
        reason = adaptor.admit(connect, adaptor.info)
        if reason != r.SUCCESS:
            raise MqttError(reason, "the client is not let in")
        client = adaptor.service.open_client(connect, client_id)
        self.client = client
        client.connected(adaptor.connection, adaptor)
        return client.state

    def new_client_id(self) -> str:
        return self.adaptor.service.new_client_id(ASSIGNED)

    def publish(self, publish: Publish) -> bool:
        return self._client().publish(publish)

    def subscribe(self, subscription: Subscription, identifier: int) -> int:
        client = self._client()
        if subscription.filter in client.held:
            self.existed.add(subscription.filter)
        else:
            self.existed.discard(subscription.filter)
        return client.subscribe(subscription, identifier)

    def subscribed(self, subscription: Subscription) -> int:
        existed = subscription.filter in self.existed
        return self._client().replay(subscription, existed, self.adaptor.service.router.now)

    def unsubscribe(self, topic_filter: str) -> int:
        return self._client().unsubscribe(topic_filter)

    def disconnected(self, clean: bool) -> None:
        connection = self.adaptor.connection
        connect = connection.connect
        will = connect.will if connect is not None and not clean else None
        self._client().disconnected(self.adaptor.router.now, will)
        # Somebody else may have ended it: there is a farewell to write.
        self.adaptor.router.touch(self.adaptor)


class MqttAdaptor(Adaptor):
    """A client's connection to a service. info: what the transport knows of it. admit: whom to ask for its Connect."""

    def __init__(
        self, service: MqttService, info: PeerInfo, *, admit: Admit | None = None, now: float = 0.0
    ) -> None:
        super().__init__()
        self.service = service
        self.admit = admit if admit is not None else service.admit
        self.router = service.router
        self.info = info
        self._owner = _Owner(self)
        self.connection = ServerConnection(self._owner, service.settings, now)
        self.opened_at = 0.0
        self._held_since = inf
        self._lingers_until = inf
        self._lost = False
        self.service.connections += 1
        self.service.connections_opened += 1

    @property
    def client(self) -> Client | None:
        """Who is connected; None before its Connect."""
        return self._owner.client

    # -- octets ------------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        self.router.now = now
        self.service.octets_in += len(data)
        self.connection.receive_data(data, now)
        self._after(now)

    def receive_eof(self, now: float) -> None:
        self.router.now = now
        self.connection.receive_eof(now)
        self._after(now)
        self.closed = True

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        self.look()
        now = self.router.now
        chunks: list[bytes | memoryview] = []
        size = 0
        while size < limit:
            more = self.connection.data_to_send(limit - size, now)
            if not more:
                break
            chunks += more
            size += sum(map(len, more))
            # What was written has made room for others.
            self.look()
        self.service.octets_out += size
        return chunks

    def look(self) -> None:
        connection = self.connection
        now = self.router.now
        client = self._owner.client
        if client is not None and client.connection is connection:
            client.look()
            if connection.paused and not client.busy:
                connection.resume(now)
        self._noted(now)

    def _after(self, now: float) -> None:
        """Something has come, or time has passed: there may be something to write."""
        self._noted(now)
        self.router.touch(self)

    def _noted(self, now: float) -> None:
        connection = self.connection
        if connection.session is not None and not self.opened:
            self.opened = True
            self.opened_at = now
            connect = connection.connect
            self.service.log(
                "info",
                "connection opened",
                client_id=connection.client_id,
                user=connect.user_name if connect is not None else None,
                protocol="MQTT 5" if connection.level == MQTT_5 else "MQTT 3.1.1",
                session_present=connection.session.present,
            )
        if connection.closed and not self.closed:
            if not self.reason:
                self.reason = connection.reason
            if connection.by_peer or not (connection.has_output or self.write_ended):
                self.closed = True
            elif not self.write_ended:
                self.write_ended = True
                self._lingers_until = now + LINGER_SECONDS
        self.reading = not connection.paused
        if connection.paused:
            self._held_since = min(self._held_since, now)
        else:
            self._held_since = inf
            session = connection.session
            if session is not None and session.keeps and session.connected and not connection.closed:
                session.keeps = False

    # -- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        deadline = min(self.connection.next_deadline(), self._lingers_until if not self.closed else inf)
        session = self.connection.session
        if session is not None and self._held_since < inf and not session.keeps and not self.connection.closed:
            deadline = min(deadline, self._held_since + HELD_BACK_SECONDS)
        return deadline

    def handle_deadline(self, now: float) -> None:
        self.router.now = now
        connection = self.connection
        connection.handle_deadline(now)
        if now >= self._lingers_until:
            self.closed = True
        session = connection.session
        if session is not None and now >= self._held_since + HELD_BACK_SECONDS and not session.keeps:
            session.keep_all()
        self._after(now)

    # -- ends --------------------------------------------------------------------------------------------------------

    def close(self, condition: str, description: str) -> None:
        self.connection.fail(r.SERVER_SHUTTING_DOWN, f"{condition}: {description}")
        self._after(self.router.now)

    def connection_lost(self, now: float) -> None:
        if self._lost:
            return
        self._lost = True
        self.router.now = now
        connection = self.connection
        connection.receive_eof(now)
        self.closed = True
        service = self.service
        service.connections -= 1
        if self.opened:
            service.log(
                "info" if connection.by_peer else "warning",
                "connection closed",
                client_id=connection.client_id,
                reason=connection.reason or "the client said good-bye",
                by="peer" if connection.by_peer else "us",
                messages_in=connection.messages_in,
                messages_out=connection.messages_out,
                seconds=round(now - self.opened_at, 3),
            )
        elif not self.cut:
            service.log("warning", "connection failed", reason=connection.reason or "the stream ended before Connect")
