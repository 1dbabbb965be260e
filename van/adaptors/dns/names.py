"""Names of addresses: labels of the DNS for each address, and back.

A dot of the address separates labels. Small letters, digits, single hyphens and underscores within a label stand as
they are. All else is written as two hyphens and a code: `--s` a slash, `--m` a hyphen, `--u` an underscore, `--p` a dot
that separates nothing, and two hexadecimal digits for each other octet of the UTF-8 text, capitals included (names of
the DNS do not tell them from small letters). Each address has one name at most, and each name is of one address:

    orders-db       orders-db
    orders/eu       orders--seu
    news.eu         news.eu
    Orders          --4frders
    a--b            a--m-b
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from van.routing.address import strip_address

# RFC 1035, 2.3.4.
MAX_LABEL: Final = 63
# All labels of an address, their length octets included: a name has 255, and service, protocol and zone are beside it.
MAX_LABELS: Final = 200

_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_CODES: Final = {"/": "--s", "-": "--m", "_": "--u", ".": "--p"}
_ESCAPE: Final = re.compile(r"--(?:([smup])|([0-9a-f]{2}))")
_MEANINGS: Final = {code[2:]: character for character, code in _CODES.items()}


def labels_of(address: str) -> tuple[str, ...] | None:
    """The labels of an address; None where they are too long for a name, or there are none."""
    text = strip_address(address)
    if not text or len(text) > MAX_LABELS or strip_address(text) != text:
        return None
    labels: list[str] = []
    label = ""
    end = len(text) - 1
    for index, character in enumerate(text):
        following = text[index + 1] if index < end else ""
        hyphen = character == "-" and label and label[-1] != "-" and following in _PLAIN
        if character in _PLAIN or (character == "_" and label) or hyphen:
            label += character
        elif character == "." and label and following and following != ".":
            labels.append(label)
            label = ""
        else:
            code = _CODES.get(character)
            if code is None:
                try:
                    code = "".join([f"--{octet:02x}" for octet in character.encode()])
                except UnicodeEncodeError:
                    return None
            label += code
    labels.append(label)
    if any(len(each) > MAX_LABEL for each in labels) or sum(map(len, labels)) + len(labels) > MAX_LABELS:
        return None
    return tuple(labels)


def address_of(labels: tuple[str, ...]) -> str | None:
    """The address that has this name; None where there is none, whatever addresses there are."""
    text = ".".join([_unescape(label.lower()) for label in labels])
    try:
        # What was octets of UTF-8 one by one is text again.
        address = text.encode("latin-1").decode()
    except UnicodeError:
        return None
    return address if labels_of(address) == tuple([label.lower() for label in labels]) else None


def existing(addresses: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """All names that exist because these addresses have one: theirs, and those that they are below (RFC 8020)."""
    found: set[tuple[str, ...]] = set()
    for address in addresses:
        labels = labels_of(address)
        if labels is not None:
            found.update([labels[start:] for start in range(len(labels))])
            found.update([("_tcp", *labels), ("_udp", *labels)])
    return frozenset(found)


def _unescape(label: str) -> str:
    return _ESCAPE.sub(lambda found: _MEANINGS[found[1]] if found[1] else chr(int(found[2], 16)), label)
