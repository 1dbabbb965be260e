"""Link endpoints (2.6): attach, detach and Flow, as both roles have them.

The receiving end is in `receiver_link.py`, the sending end in `sender_link.py`. Both are plain state: what a peer's
frame does to them is called by `session.py`, and whatever they have to say is written when the connection is asked for
bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from van.amqp.errors import AmqpError
from van.amqp.performatives import ROLE_SENDER, Attach, Detach, Error
from van.amqp.serial import MASK

if TYPE_CHECKING:
    from van.amqp.session import Session

# snd-settle-mode (2.8.2) and rcv-settle-mode (2.8.3)
SND_UNSETTLED: Final = 0
SND_SETTLED: Final = 1
SND_MIXED: Final = 2
RCV_FIRST: Final = 0
RCV_SECOND: Final = 1

# Texts for a peer's operator are cut here, in octets: an error has to fit into the smallest frame of all (512).
MAX_DESCRIPTION: Final = 256

# Stands for no max-message-size: as much as fits into a machine word when this is compiled.
NO_LIMIT: Final = 0x3FFFFFFFFFFFFFFF


def wire_error(error: AmqpError | None) -> Error | None:
    """The `error` field for a peer, of a size that always fits."""
    if error is None:
        return None
    description = error.description.encode(errors="replace")[:MAX_DESCRIPTION].decode(errors="ignore")
    return Error(condition=error.condition, description=description or None)


class Link:
    """What both roles have in common.

    `local_attached` and `remote_attached` tell which Attach has been written and received; `detach_sent` and
    `detach_received` the same of Detach. `remote` is the peer's Attach. `failure` is the peer's error for which the
    link is detached from here, `flow_pending` says that a Flow waits to be written. `drained` counts credit that was
    given up, which moves delivery-count on as deliveries do.
    """

    __slots__ = (
        "delivery_count",
        "detach_received",
        "detach_sent",
        "drain",
        "drained",
        "failure",
        "flow_pending",
        "handle",
        "link_credit",
        "local",
        "local_attached",
        "max_message_size",
        "name",
        "rcv_settle_mode",
        "remote",
        "remote_attached",
        "session",
        "snd_settle_mode",
    )

    role = ROLE_SENDER

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self.name = name
        self.handle = -1
        self.local: Attach | None = None
        self.remote: Attach | None = None
        self.local_attached = False
        self.remote_attached = False
        self.detach_sent = False
        self.detach_received = False
        self.delivery_count = 0
        self.link_credit = 0
        self.drain = False
        self.drained = 0
        self.failure: AmqpError | None = None
        self.flow_pending = False
        self.snd_settle_mode = SND_MIXED
        self.rcv_settle_mode = RCV_FIRST
        self.max_message_size = NO_LIMIT

    @property
    def active(self) -> bool:
        """Both sides have attached and neither has detached."""
        return self.local_attached and self.remote_attached and not self.detach_sent and not self.detach_received

    @property
    def refused(self) -> bool:
        """Whether the peer's answer has no terminus of its own: it refuses the link, and detaches it next (2.6.3)."""
        remote = self.remote
        return remote is not None and (remote.target if self.role == ROLE_SENDER else remote.source) is None

    def deliveries(self) -> int:
        """How many deliveries were begun on this link."""
        attach = self.local if self.role == ROLE_SENDER else self.remote
        initial = (attach.initial_delivery_count or 0) if attach is not None else 0
        return (self.delivery_count - initial - self.drained) & MASK

    def attach(self, attach: Attach) -> None:
        """Write our Attach: the first, or the answer to the peer's. Name, handle and role are filled in here.

        Raises `AmqpSessionError` when there is no free handle. A link whose peer has already made an error is detached
        again at once.
        """
        session = self.session
        self.handle = session.allocate_handle(self)
        attach.name = self.name
        attach.handle = self.handle
        attach.role = self.role
        if self.role == ROLE_SENDER and attach.initial_delivery_count is None:
            attach.initial_delivery_count = 0
        self.local = attach
        self.local_attached = True
        # 2.8.2, 2.8.3: each side decides its own mode; what it says of the other's is a wish.
        if self.role == ROLE_SENDER:
            self.snd_settle_mode = attach.snd_settle_mode
        else:
            self.rcv_settle_mode = attach.rcv_settle_mode
        self._on_local_attach(attach)
        session.write_control(attach.encode())
        if self.failure is not None:
            self.detach(self.failure)

    def detach(self, error: AmqpError | None = None, closed: bool = True) -> None:
        """Write a Detach (2.6.6), with `error` for the peer. Does nothing on a link that is already detached."""
        if self.detach_sent or not self.local_attached:
            return
        self.detach_sent = True
        self.session.write_control(Detach(handle=self.handle, closed=closed, error=wire_error(error)).encode())
        self.session.detach_written(self)

    def announce(self) -> None:
        """Have a Flow with this link's state written."""
        if not self.flow_pending:
            self.flow_pending = True
            session = self.session
            session.flows.append(self)
            session.mark()

    def let_go(self) -> None:
        """Nothing will come or go by this link any more: forget its owner, who knows it. Else only a collection of
        garbage would free the two.
        """
        raise NotImplementedError

    def _on_local_attach(self, attach: Attach) -> None:
        raise NotImplementedError

    def hurry(self) -> None:
        """Room is short: a delivery that waits for its end is passed on as far as it has come."""

    def on_attach(self, attach: Attach) -> None:
        """Take the peer's Attach."""
        raise NotImplementedError

    def on_flow(self, delivery_count: int, link_credit: int, available: int, drain: bool, echo: bool) -> None:
        """Take a link's part of the peer's Flow (2.6.7); -1 for a field that was left out."""
        raise NotImplementedError
