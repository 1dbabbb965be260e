"""A router with its management agent and clients that ask it, without sockets."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tests.routing.network import Client, Network
from van.adaptors.amqp import AmqpAdaptor
from van.amqp.message import AmqpValue, Body, Message, MessageId, Properties
from van.amqp.terminus import Source
from van.management.agent import MANAGEMENT, ManagementAgent
from van.management.facts import (
    ConnectionFacts,
    ConnectorFacts,
    Facts,
    ListenerAddressFacts,
    ListenerFacts,
    RouterFacts,
    ServiceFacts,
)


class SceneFacts(Facts):
    """What a process would know: the connections of the scene, two listeners and a connector."""

    def __init__(self, adaptors: list[AmqpAdaptor]) -> None:
        self._adaptors = adaptors

    def router(self) -> RouterFacts:
        return RouterFacts(host_name="machine", metadata="a scene")

    def listeners(self) -> Collection[ListenerFacts]:
        common: dict[str, Any] = {"host": "127.0.0.1", "max_frame_size": 16384, "max_sessions": 32768}
        return (
            ListenerFacts(name="open", port=5672, sasl_mechanisms=("ANONYMOUS",), **common),
            ListenerFacts(name="routers", port=55671, role="inter-router", cost=3, tls=True, **common),
        )

    def connectors(self) -> Collection[ConnectorFacts]:
        return (ConnectorFacts(name="hub", host="hub", port=443, status="FAILED", message="no route", proxied=True),)

    def adaptors(self) -> Collection[AmqpAdaptor]:
        return self._adaptors

    def connection(self, adaptor: AmqpAdaptor) -> ConnectionFacts:
        return ConnectionFacts(adaptor=adaptor, host=f"10.0.0.{adaptor.number}:5000", local="10.0.0.254:5672")

    def services(self) -> Collection[ServiceFacts]:
        common: dict[str, Any] = {"scheme": "tcp", "host": "127.0.0.1", "address": "db", "opened": 5}
        return (
            ServiceFacts(name="here", listening=True, port=5432, status="down", message="nobody", **common),
            ServiceFacts(name="there", listening=False, port=5433, octets_in=7, octets_out=8, **common),
            ServiceFacts(name="web", listening=True, port=80, **{**common, "scheme": "http"}),
        )

    def listener_addresses(self) -> Collection[ListenerAddressFacts]:
        return (ListenerAddressFacts(name="here/db", listener="here", address="db", value=3),)

    def memory(self) -> tuple[int, int]:
        return 200_000_000, 40_000_000

    def wall_time(self) -> float:
        return 1_800_000_000.0


class Managed(Network):
    """A network with an agent; `slices` has its work wait until `work` is called, as in a process.

    `local`: whether its clients are programs of the router's machine.
    """

    local = False

    def __init__(self, *, slices: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.wanted = 0
        self.agent = ManagementAgent(
            self.router, _Connected(self), on_more=self._more if slices else None, log=self.log
        )

    def _more(self) -> None:
        self.wanted += 1

    def work(self) -> int:
        """Have the agent do all its work; returns in how many slices."""
        slices = 0
        while self.agent.busy:
            self.agent.go_on()
            self.router.wake_touched()
            slices += 1
        self.run()
        return slices

    def asker(self, address: str = MANAGEMENT, **options: Any) -> Asker:
        return Asker(self.client(**options), address)


class _Connected(SceneFacts):
    def __init__(self, network: Managed) -> None:
        super().__init__([])
        self._network = network

    def adaptors(self) -> Collection[AmqpAdaptor]:
        return [client.adaptor for client in self._network.clients]

    def is_local(self, adaptor: AmqpAdaptor) -> bool:
        return self._network.local


class Answer:
    """A reply, taken apart."""

    def __init__(self, message: Message) -> None:
        properties = message.application_properties or {}
        self.message = message
        self.status = properties["statusCode"]
        self.description = properties["statusDescription"]
        self.body: Any = message.body.value if isinstance(message.body, AmqpValue) else message.body

    @property
    def names(self) -> list[str]:
        """The columns of a QUERY."""
        names: list[str] = self.body["attributeNames"]
        return names

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of a QUERY."""
        return [dict(zip(self.names, row, strict=True)) for row in self.body["results"]]

    def row(self, **known: object) -> dict[str, Any]:
        """The only row in which these attributes have these values."""
        (found,) = [row for row in self.rows if all(row[name] == value for name, value in known.items())]
        return found


class Asker:
    """A client that sends requests to one address, and receives the replies at an address that the router made up."""

    def __init__(self, client: Client, address: str) -> None:
        self.client = client
        self.network = client.network
        self.replies = client.receiver(None, dynamic=True, credit=100)
        remote = self.replies.link.remote
        assert remote is not None
        assert isinstance(remote.source, Source)
        assert remote.source.address is not None
        self.reply_to = remote.source.address
        self.sender = client.sender(address)

    def request(
        self,
        body: Body | None = None,
        *,
        correlation_id: MessageId | None = "1",
        reply_to: str | None = "",
        **application_properties: object,
    ) -> Message:
        properties = Properties(
            reply_to=self.reply_to if reply_to == "" else reply_to, correlation_id=correlation_id
        )
        return Message(properties=properties, application_properties=application_properties or None, body=body)

    def send(self, message: Message) -> Any:
        sent = self.sender.send(message.encode())
        self.network.run()
        return sent

    def answers(self) -> list[Answer]:
        """Every reply so far."""
        return [Answer(Message.decode(body)) for body in self.replies.bodies]

    def ask(self, body: object = None, **application_properties: Any) -> Answer:
        """Send a request and return its answer."""
        before = len(self.replies.bodies)
        self.send(self.request(AmqpValue({} if body is None else body), **application_properties))
        if isinstance(self.network, Managed):
            self.network.work()
        assert len(self.replies.bodies) == before + 1
        return self.answers()[-1]

    def query(self, entity_type: str, *names: str, **application_properties: Any) -> Answer:
        body = {"attributeNames": list(names)}
        return self.ask(body, operation="QUERY", entityType=entity_type, **application_properties)

    def read(self, entity_type: str, **application_properties: Any) -> Answer:
        return self.ask(operation="READ", type=entity_type, **application_properties)
