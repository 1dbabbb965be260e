"""Connections that have come to one process of a router and may go on in another.

Which process a connection should be in is known when its first link names an address. Until then everything that was
said is kept. If it should be elsewhere, the stream and what was said go there, a fresh adaptor hears it all again, and
has to say the same: then it goes on where the first one stopped. The peer notices nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from van.adaptors.amqp import AmqpAdaptor
from van.amqp.events import Event, LinkAttached, SessionEnded
from van.amqp.link import Link
from van.amqp.receiver_link import ReceiverLink
from van.amqp.session import Session, WindowPolicy
from van.amqp.terminus import Source, Target

# Who says more than this before its first link stays where it is. Opening takes some hundred octets.
LONGEST_RECORD: Final = 65536
_AT_ONCE: Final = 262144


@dataclass(frozen=True, slots=True)
class Record:
    """What was said on a connection so far: each batch of octets received, with the number of octets sent before it.

    frame_size is the max-frame-size that we announced, windows are those of the sessions that we began: both depend on
    what a process has to do, and are said again as they were.
    """

    received: tuple[tuple[int, bytes], ...]
    sent: bytes
    frame_size: int = 0
    windows: tuple[int, ...] = ()


Elsewhere: TypeAlias = Callable[[str, bool], object | None]
DepartTo: TypeAlias = Callable[[object, int, Record], None]


def _nowhere_else(address: str, stays: bool) -> object | None:
    """Where a connection should be that may not go."""
    return None


def _gone(goal: object, descriptor: int, record: Record) -> None:
    """Nobody goes who may not."""


class ArrivingAdaptor(AmqpAdaptor):
    """A connection of an application that may go elsewhere, once it was told to whom it may (`may_go`)."""

    def _prepare(self) -> None:
        self._elsewhere: Elsewhere = _nowhere_else
        self._depart_to: DepartTo = _gone
        self._goal: object | None = None
        self._arriving = True
        self._received: list[tuple[int, bytes]] = []
        self._received_size = 0
        self._sent = bytearray()
        self._log_here = self.log
        self._unsaid: list[tuple[str, str, dict[str, object]]] = []
        self.log = self._log_later

    def may_go(self, elsewhere: Elsewhere, depart_to: DepartTo) -> None:
        """Say where it may go, before it has heard anything.

        elsewhere: called once, with the address that the first link names ("" for none), and with whether the
        connection can only stay. Returns where it should be, None for here. depart_to: called with that, the stream's
        descriptor and the record.
        """
        self._elsewhere = elsewhere
        self._depart_to = depart_to

    def _log_later(self, level: str, event: str, **fields: object) -> None:
        """The process where it stays writes to the log."""
        self._unsaid.append((level, event, fields))

    def _stay(self) -> None:
        """It is ours from now on."""
        self._arriving = False
        self._received.clear()
        self._sent.clear()
        self.log = self._log_here
        for level, event, fields in self._unsaid:
            self.log(level, event, **fields)
        self._unsaid.clear()

    def _stay_for_good(self) -> None:
        if self._arriving:
            self._elsewhere("", True)
            self._stay()

    # -- Adaptor -------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        if self._arriving:
            self._received.append((len(self._sent), data))
            self._received_size += len(data)
            if self._received_size > LONGEST_RECORD:
                self._stay_for_good()
        super().receive_data(data, now)

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        if self.departs:
            return []
        chunks = super().data_to_send(limit)
        if self._arriving:
            for chunk in chunks:
                self._sent += chunk
        return chunks

    def receive_eof(self, now: float) -> None:
        self._stay_for_good()
        super().receive_eof(now)

    def handle_deadline(self, now: float) -> None:
        # What is said because of the time would not be said again.
        self._stay_for_good()
        super().handle_deadline(now)

    def close(self, condition: str, description: str) -> None:
        self._stay_for_good()
        super().close(condition, description)

    def depart(self, descriptor: int) -> None:
        connection = self.connection
        windows = tuple([session.window for session in connection.begun_sessions()])
        record = Record(tuple(self._received), bytes(self._sent), connection.max_frame_size, windows)
        self._depart_to(self._goal, descriptor, record)

    def connection_lost(self, now: float) -> None:
        if self.departed:
            self._lost = self.cut = True
            for session in self.connection.begun_sessions():
                self.router.budget.remove(session)
            self.on_lost()
            self.connection.let_go()
            return
        self._stay_for_good()
        super().connection_lost(now)

    # -- events --------------------------------------------------------------------------------------------------

    def _handle(self, events: list[Event]) -> None:
        if self._arriving:
            links = [event.link for event in events if isinstance(event, LinkAttached)]
            if any(isinstance(event, SessionEnded) for event in events):
                # Windows are known of sessions that there are.
                self._stay_for_good()
            elif links:
                self._goal = self._elsewhere(next(filter(None, map(_named, links)), ""), False)
                if self._goal is not None:
                    # From here on nothing is done, said, or written down.
                    self.departs = self.closed = True
                    return
                self._stay()
        super()._handle(events)


def _named(link: Link) -> str:
    """The address that a peer's Attach names; empty for none, or one that is still to be made."""
    remote = link.remote
    terminus = (remote.target if isinstance(link, ReceiverLink) else remote.source) if remote is not None else None
    if not isinstance(terminus, Source | Target) or terminus.dynamic:
        return ""
    return terminus.address or ""


class _SameWindows(WindowPolicy):
    """Begins sessions with the windows that were told, for nobody has credit yet: then it is looked at again."""

    __slots__ = ("_inner", "_told")

    def __init__(self, inner: WindowPolicy, told: tuple[int, ...]) -> None:
        super().__init__(inner.max_frames)
        self._inner = inner
        self._told = list(told)

    def begin(self, session: Session) -> int:
        window = self._inner.begin(session)
        return self._told.pop(0) if self._told and window > 0 else window

    def activate(self, session: Session) -> int:
        return self._inner.activate(session)

    def renew(self, session: Session) -> int:
        return self._inner.renew(session)


def replay(adaptor: AmqpAdaptor, record: Record, now: float) -> bool:
    """Have an adaptor hear what another has heard. Returns whether it says the same so far; else it is of no use.

    It was made with the `frame_size` of the record.
    """
    connection = adaptor.connection
    policy = connection.window_policy
    connection.window_policy = _SameWindows(policy, record.windows)
    try:
        return _repeat(adaptor, record, now)
    finally:
        connection.window_policy = policy


def _repeat(adaptor: AmqpAdaptor, record: Record, now: float) -> bool:
    sent = bytearray()
    for before, data in record.received:
        while len(sent) < before:
            chunks = adaptor.data_to_send(_AT_ONCE)
            if not chunks:
                break
            sent += b"".join(chunks)
        if sent != record.sent[:before]:
            return False
        adaptor.receive_data(data, now)
    return sent == record.sent
