"""Sources and targets (3.5), the coordinator (4.5.1), and the lifetime policies of dynamic nodes."""

from __future__ import annotations

from typing import ClassVar, Final

from van.amqp.composite import (
    ADDRESS,
    BOOLEAN,
    COMPOSITE,
    FIELDS,
    SYMBOL,
    TERMINUS_DURABILITY,
    TERMINUS_EXPIRY_POLICY,
    UINT,
    Composite,
    Field,
    register,
)
from van.amqp.delivery_state import DeliveryState


class Source(Composite):
    """Where the messages of a link come from (3.5.3)."""

    __slots__ = (
        "address",
        "capabilities",
        "default_outcome",
        "distribution_mode",
        "durable",
        "dynamic",
        "dynamic_node_properties",
        "expiry_policy",
        "filter",
        "outcomes",
        "timeout",
    )

    DESCRIPTOR: ClassVar[int] = 0x28
    NAME: ClassVar[str] = "amqp:source:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("source",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("address", ADDRESS),
        Field("durable", TERMINUS_DURABILITY, default=0),
        Field("expiry-policy", TERMINUS_EXPIRY_POLICY, default="session-end"),
        Field("timeout", UINT, default=0),
        Field("dynamic", BOOLEAN, default=False),
        Field("dynamic-node-properties", FIELDS),
        Field("distribution-mode", SYMBOL),
        Field("filter", FIELDS),
        Field("default-outcome", COMPOSITE, requires="outcome"),
        Field("outcomes", SYMBOL, multiple=True),
        Field("capabilities", SYMBOL, multiple=True),
    )

    def __init__(
        self,
        *,
        address: str | None = None,
        durable: int = 0,
        expiry_policy: str = "session-end",
        timeout: int = 0,
        dynamic: bool = False,
        dynamic_node_properties: dict[str, object] | None = None,
        distribution_mode: str | None = None,
        filter: dict[str, object] | None = None,  # noqa: A002  # the specification's name
        default_outcome: DeliveryState | None = None,
        outcomes: list[str] | None = None,
        capabilities: list[str] | None = None,
    ) -> None:
        self.address = address
        self.durable = durable
        self.expiry_policy = expiry_policy
        self.timeout = timeout
        self.dynamic = dynamic
        self.dynamic_node_properties = dynamic_node_properties
        self.distribution_mode = distribution_mode
        self.filter = filter
        self.default_outcome = default_outcome
        self.outcomes = outcomes
        self.capabilities = capabilities


class Target(Composite):
    """Where the messages of a link go (3.5.4)."""

    __slots__ = ("address", "capabilities", "durable", "dynamic", "dynamic_node_properties", "expiry_policy", "timeout")

    DESCRIPTOR: ClassVar[int] = 0x29
    NAME: ClassVar[str] = "amqp:target:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("target",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("address", ADDRESS),
        Field("durable", TERMINUS_DURABILITY, default=0),
        Field("expiry-policy", TERMINUS_EXPIRY_POLICY, default="session-end"),
        Field("timeout", UINT, default=0),
        Field("dynamic", BOOLEAN, default=False),
        Field("dynamic-node-properties", FIELDS),
        Field("capabilities", SYMBOL, multiple=True),
    )

    def __init__(
        self,
        *,
        address: str | None = None,
        durable: int = 0,
        expiry_policy: str = "session-end",
        timeout: int = 0,
        dynamic: bool = False,
        dynamic_node_properties: dict[str, object] | None = None,
        capabilities: list[str] | None = None,
    ) -> None:
        self.address = address
        self.durable = durable
        self.expiry_policy = expiry_policy
        self.timeout = timeout
        self.dynamic = dynamic
        self.dynamic_node_properties = dynamic_node_properties
        self.capabilities = capabilities


class Coordinator(Composite):
    """The target of a link that controls transactions (4.5.1)."""

    __slots__ = ("capabilities",)

    DESCRIPTOR: ClassVar[int] = 0x30
    NAME: ClassVar[str] = "amqp:coordinator:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("target",)
    FIELDS: ClassVar[tuple[Field, ...]] = (Field("capabilities", SYMBOL, multiple=True),)

    def __init__(
        self,
        *,
        capabilities: list[str] | None = None,
    ) -> None:
        self.capabilities = capabilities


class DeleteOnClose(Composite):
    """A dynamic node lives as long as the link that made it (3.5.10)."""

    __slots__ = ()

    DESCRIPTOR: ClassVar[int] = 0x2B
    NAME: ClassVar[str] = "amqp:delete-on-close:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("lifetime-policy",)


class DeleteOnNoLinks(Composite):
    """A dynamic node lives as long as it has links (3.5.11)."""

    __slots__ = ()

    DESCRIPTOR: ClassVar[int] = 0x2C
    NAME: ClassVar[str] = "amqp:delete-on-no-links:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("lifetime-policy",)


class DeleteOnNoMessages(Composite):
    """A dynamic node lives until its link is gone and it holds no messages (3.5.12)."""

    __slots__ = ()

    DESCRIPTOR: ClassVar[int] = 0x2D
    NAME: ClassVar[str] = "amqp:delete-on-no-messages:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("lifetime-policy",)


class DeleteOnNoLinksOrMessages(Composite):
    """A dynamic node lives as long as it has links or messages (3.5.13)."""

    __slots__ = ()

    DESCRIPTOR: ClassVar[int] = 0x2E
    NAME: ClassVar[str] = "amqp:delete-on-no-links-or-messages:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("lifetime-policy",)


register(Source, Target, Coordinator, DeleteOnClose, DeleteOnNoLinks, DeleteOnNoMessages, DeleteOnNoLinksOrMessages)


class TerminusDurability:
    """What of a terminus outlives it (3.5.5)."""

    NONE: Final = 0
    CONFIGURATION: Final = 1
    UNSETTLED_STATE: Final = 2


class TerminusExpiryPolicy:
    """When the expiry timer of a terminus starts (3.5.6)."""

    LINK_DETACH: Final = "link-detach"
    SESSION_END: Final = "session-end"
    CONNECTION_CLOSE: Final = "connection-close"
    NEVER: Final = "never"
