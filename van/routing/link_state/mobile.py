"""Addresses that have receivers: our own as we announce them, and those of other routers as they come.

Whatever grows with the number of addresses is done in slices: each `yield` of a generator here ends one. When the
slices run, and what is sent, is the engine's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Final

from van.routing.dialect.control import (
    encode_absolute,
    encode_address,
    encode_descriptors,
    encode_differential,
    encode_withdrawn,
)
from van.routing.link_state.database import Node
from van.routing.link_state.messages import MobileAddress

# Addresses that are decoded, or told to the owner, in one go: about 2 ms.
SLICE: Final = 250
# Changes of our own addresses in one update: about 2 ms to write, and its hearers have slices to do meanwhile. The
# first update, and one that is asked for, tells everything at once, as the protocol wants it; it is joined of pieces
# that were encoded one by one before (10 000 addresses: 1.5 ms).
MAX_CHANGES: Final = 4000

_Tell = Callable[[str, list[MobileAddress], list[str]], None]


class OwnAddresses:
    """Our addresses: as they are, and as they were announced as of `sequence`, which is 0 before that.

    The first time everything is announced as such, not as a change: whoever knew us in an earlier life takes it, too.
    Descriptors are encoded when an address changes, not when an update is made of ten thousand.
    """

    __slots__ = ("_absolute", "_announced", "_changed", "_current", "_first", "router_id", "sequence")

    def __init__(self, router_id: str, sequence: int) -> None:
        self.router_id = router_id
        self.sequence = 0
        self._first = sequence + 1
        self._current: dict[str, tuple[MobileAddress, bytes]] = {}
        self._announced: dict[str, tuple[MobileAddress, bytes]] = {}
        # What is to be announced: the descriptor of what is new or different, or of what was withdrawn.
        self._changed: dict[str, bytes] = {}
        self._absolute: bytes | None = None

    def set(self, address: MobileAddress) -> bool:
        """An address has receivers here; return whether that is news to be announced."""
        key = address.key
        announced = self._announced.get(key)
        if announced is not None and announced[0] == address:
            self._current[key] = announced
            self._changed.pop(key, None)
            return False
        current = self._current.get(key)
        if current is None or current[0] != address:
            current = self._current[key] = (address, encode_address(address))
        self._changed[key] = current[1]
        return True

    def remove(self, key: str) -> bool:
        """An address has no receivers any more; return whether that is news to be announced."""
        if self._current.pop(key, None) is None:
            return False
        if key in self._announced:
            self._changed[key] = encode_withdrawn(key)
            return True
        self._changed.pop(key, None)
        return False

    def pending(self) -> bool:
        """Whether there is something to announce."""
        return bool(self._changed)

    def announce(self, to: str) -> bytes:
        """Return an update that tells all others what changed, and count that as announced.

        It has `MAX_CHANGES` at most: while something is `pending`, another has to follow.
        """
        self._absolute = None
        if not self.sequence:
            self.sequence = self._first
            self._changed.clear()
            self._announced = self._current.copy()
            return self.all(to)
        add: list[bytes] = []
        delete: list[bytes] = []
        announced = self._announced
        keys = list(islice(self._changed, MAX_CHANGES))
        for key in keys:
            descriptor = self._changed.pop(key)
            current = self._current.get(key)
            if current is None:
                del announced[key]
                delete.append(descriptor)
            else:
                announced[key] = current
                add.append(descriptor)
        self.sequence += 1
        return encode_differential(
            self.router_id, self.sequence, encode_descriptors(add), encode_descriptors(delete), to
        )

    def all(self, to: str) -> bytes:
        """Return the update that tells one router everything, as it was last announced."""
        if self._absolute is None:
            self._absolute = encode_descriptors([descriptor for _, descriptor in self._announced.values()])
        return encode_absolute(self.router_id, self.sequence, self._absolute, to)


def show(node: Node, tell: _Tell) -> Iterator[None]:
    """The router can be reached: tell the owner its addresses."""
    node.shown = True
    addresses = list(node.addresses.values())
    for start in range(0, len(addresses), SLICE):
        if start:
            yield
        tell(node.id, addresses[start : start + SLICE], [])


def hide(node: Node, tell: _Tell) -> Iterator[None]:
    """The router cannot be reached: take its addresses away from the owner."""
    node.shown = False
    keys = list(node.addresses)
    for start in range(0, len(keys), SLICE):
        if start:
            yield
        tell(node.id, [], keys[start : start + SLICE])


def forget(node: Node, tell: _Tell) -> Iterator[None]:
    """What the router had is void: it has been started again."""
    keys = list(node.addresses)
    node.addresses = {}
    node.mobile_sequence = 0
    if node.shown:
        for start in range(0, len(keys), SLICE):
            if start:
                yield
            tell(node.id, [], keys[start : start + SLICE])


def change_at_once(
    node: Node,
    sequence: int,
    exist: tuple[MobileAddress, ...] | None,
    add: tuple[MobileAddress, ...],
    delete: tuple[MobileAddress, ...],
    tell: _Tell,
) -> None:
    """The short way for what most updates are: a few addresses, of a router at which nothing is being done."""
    addresses = node.addresses
    keys = {address.key for address in delete}
    if exist is not None:
        add = exist
        if addresses:
            keys = addresses.keys() - {address.key for address in exist}
    news = [address for address in add if address.key not in keys and addresses.get(address.key) != address]
    gone = [key for key in keys if addresses.pop(key, None) is not None]
    for address in news:
        addresses[address.key] = address
    node.mobile_sequence = sequence
    if node.shown and (news or gone):
        tell(node.id, news, gone)


def replace(node: Node, sequence: int, exist: Collection[MobileAddress], tell: _Tell) -> Iterator[None]:
    """The router has exactly these addresses. Raises DecodeError before anything is changed."""
    fresh: dict[str, MobileAddress] = {}
    entries = iter(exist)
    for address in islice(entries, SLICE):
        fresh[address.key] = address
    if len(exist) > SLICE:
        while True:
            yield
            slice_of = list(islice(entries, SLICE))
            if not slice_of:
                break
            for address in slice_of:
                fresh[address.key] = address
    else:
        list(islice(entries, 1))  # the list must end where it says
    yield from _change(node, sequence, list(fresh.values()), [key for key in node.addresses if key not in fresh], tell)


def change(
    node: Node, sequence: int, add: Collection[MobileAddress], delete: Collection[MobileAddress], tell: _Tell
) -> Iterator[None]:
    """The router has some addresses more, and some less. Raises DecodeError before anything is changed."""
    added: list[MobileAddress] = []
    keys: list[str] = []
    taken = 0
    for address in add:
        added.append(address)
        taken += 1
        if taken % SLICE == 0:
            yield
    for address in delete:
        keys.append(address.key)
        taken += 1
        if taken % SLICE == 0:
            yield
    yield from _change(node, sequence, added, keys, tell)


def _change(
    node: Node, sequence: int, added: list[MobileAddress], deleted: list[str], tell: _Tell
) -> Iterator[None]:
    """Adds come first, as the peers have it; an address that is in both is gone."""
    addresses = node.addresses
    gone = set(deleted)
    for start in range(0, len(added), SLICE):
        if start:
            yield
        news: list[MobileAddress] = []
        for address in added[start : start + SLICE]:
            if address.key not in gone and addresses.get(address.key) != address:
                addresses[address.key] = address
                news.append(address)
        if news and node.shown:
            tell(node.id, news, [])
    for start in range(0, len(deleted), SLICE):
        if start or added:
            if len(added) + len(deleted) > SLICE:
                yield
        keys = [key for key in deleted[start : start + SLICE] if addresses.pop(key, None) is not None]
        if keys and node.shown:
            tell(node.id, [], keys)
    node.mobile_sequence = sequence
