"""Delivery states and outcomes (3.4, 4.5), and the error composite that some of them carry (2.8.14).

The tables only: what a state does to a delivery is the business of `session.py` and of the owners of links.
"""

from __future__ import annotations

from typing import ClassVar, Final

from van.amqp.composite import (
    ANY,
    BOOLEAN,
    COMPOSITE,
    FIELDS,
    STRING,
    SYMBOL,
    TXN_ID,
    UINT,
    ULONG,
    Composite,
    Field,
    register,
)
from van.amqp.types import Described


class Received(Composite):
    """How much of a partly received message an endpoint holds when a link is resumed (3.4.1)."""

    __slots__ = ("section_number", "section_offset")

    DESCRIPTOR: ClassVar[int] = 0x23
    NAME: ClassVar[str] = "amqp:received:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("delivery-state",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("section-number", UINT, mandatory=True),
        Field("section-offset", ULONG, mandatory=True),
    )

    def __init__(
        self,
        *,
        section_number: int,
        section_offset: int,
    ) -> None:
        self.section_number = section_number
        self.section_offset = section_offset


class Accepted(Composite):
    """The message was processed; terminal (3.4.2). Use the shared `ACCEPTED`."""

    __slots__ = ()

    DESCRIPTOR: ClassVar[int] = 0x24
    NAME: ClassVar[str] = "amqp:accepted:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("delivery-state", "outcome")


class Rejected(Composite):
    """The message is invalid and cannot be processed; terminal (3.4.3). `error` says why."""

    __slots__ = ("error",)

    DESCRIPTOR: ClassVar[int] = 0x25
    NAME: ClassVar[str] = "amqp:rejected:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("delivery-state", "outcome")
    FIELDS: ClassVar[tuple[Field, ...]] = (Field("error", COMPOSITE, requires="error"),)

    def __init__(
        self,
        *,
        error: Error | None = None,
    ) -> None:
        self.error = error


class Released(Composite):
    """The message was not and will not be processed; terminal (3.4.4). Use the shared `RELEASED`."""

    __slots__ = ()

    DESCRIPTOR: ClassVar[int] = 0x26
    NAME: ClassVar[str] = "amqp:released:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("delivery-state", "outcome")


class Modified(Composite):
    """The message was not processed and should be changed before it is offered again; terminal (3.4.5)."""

    __slots__ = ("delivery_failed", "message_annotations", "undeliverable_here")

    DESCRIPTOR: ClassVar[int] = 0x27
    NAME: ClassVar[str] = "amqp:modified:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("delivery-state", "outcome")
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("delivery-failed", BOOLEAN),
        Field("undeliverable-here", BOOLEAN),
        Field("message-annotations", FIELDS),
    )

    def __init__(
        self,
        *,
        delivery_failed: bool | None = None,
        undeliverable_here: bool | None = None,
        message_annotations: dict[str, object] | None = None,
    ) -> None:
        self.delivery_failed = delivery_failed
        self.undeliverable_here = undeliverable_here
        self.message_annotations = message_annotations


class Declared(Composite):
    """The outcome of a Declare: a transaction was made (4.5.5)."""

    __slots__ = ("txn_id",)

    DESCRIPTOR: ClassVar[int] = 0x33
    NAME: ClassVar[str] = "amqp:declared:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("delivery-state", "outcome")
    FIELDS: ClassVar[tuple[Field, ...]] = (Field("txn-id", TXN_ID, mandatory=True),)

    def __init__(
        self,
        *,
        txn_id: bytes,
    ) -> None:
        self.txn_id = txn_id


class TransactionalState(Composite):
    """The state of a delivery inside a transaction (4.5.8)."""

    __slots__ = ("outcome", "txn_id")

    DESCRIPTOR: ClassVar[int] = 0x34
    NAME: ClassVar[str] = "amqp:transactional-state:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("delivery-state",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("txn-id", TXN_ID, mandatory=True),
        Field("outcome", COMPOSITE, requires="outcome"),
    )

    def __init__(
        self,
        *,
        txn_id: bytes,
        outcome: DeliveryState | None = None,
    ) -> None:
        self.txn_id = txn_id
        self.outcome = outcome


class Declare(Composite):
    """The body of a message that asks a coordinator for a transaction (4.5.2)."""

    __slots__ = ("global_id",)

    DESCRIPTOR: ClassVar[int] = 0x31
    NAME: ClassVar[str] = "amqp:declare:list"
    FIELDS: ClassVar[tuple[Field, ...]] = (Field("global-id", ANY),)

    def __init__(
        self,
        *,
        global_id: object = None,
    ) -> None:
        self.global_id = global_id


class Discharge(Composite):
    """The body of a message that ends a transaction (4.5.3)."""

    __slots__ = ("fail", "txn_id")

    DESCRIPTOR: ClassVar[int] = 0x32
    NAME: ClassVar[str] = "amqp:discharge:list"
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("txn-id", TXN_ID, mandatory=True),
        Field("fail", BOOLEAN),
    )

    def __init__(
        self,
        *,
        txn_id: bytes,
        fail: bool | None = None,
    ) -> None:
        self.txn_id = txn_id
        self.fail = fail


class Error(Composite):
    """What went wrong: a condition, text for people, and more in a map (2.8.14)."""

    __slots__ = ("condition", "description", "info")

    DESCRIPTOR: ClassVar[int] = 0x1D
    NAME: ClassVar[str] = "amqp:error:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("error",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("condition", SYMBOL, mandatory=True),
        Field("description", STRING),
        Field("info", FIELDS),
    )

    def __init__(
        self,
        *,
        condition: str,
        description: str | None = None,
        info: dict[str, object] | None = None,
    ) -> None:
        self.condition = condition
        self.description = description
        self.info = info


register(Received, Accepted, Rejected, Released, Modified, Declared, TransactionalState, Declare, Discharge, Error)

# A delivery state whose descriptor we do not know is carried on as it came.
DeliveryState = Received | Accepted | Rejected | Released | Modified | Declared | TransactionalState | Described

# States without fields are all the same: shared, never changed.
ACCEPTED: Final = Accepted()
RELEASED: Final = Released()
