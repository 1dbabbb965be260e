"""Names of addresses, there and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from van.adaptors.dns.names import MAX_LABEL, MAX_LABELS, address_of, labels_of
from van.routing.address import strip_address

LABEL = re.compile(r"[a-z0-9-][a-z0-9_-]*")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("orders-db", "orders-db"),
        ("orders/eu", "orders--seu"),
        ("news.eu", "news.eu"),
        ("Orders", "--4frders"),
        ("a--b", "a--m-b"),
        ("a-", "a--m"),
        ("-a", "--ma"),
        ("---", "--m--m--m"),
        ("snake_case", "snake_case"),
        ("_dmarc", "--udmarc"),
        ("a..b", "a--p.b"),
        (".a", "--pa"),
        ("münchen", "m--c3--bcnchen"),
        ("a b", "a--20b"),
        ("amqp:/orders-db", "orders-db"),
        ("a-/b", "a--m--sb"),
    ],
)
def test_names(address: str, name: str) -> None:
    labels = tuple(name.split("."))
    assert labels_of(address) == labels
    assert address_of(labels) == strip_address(address)
    assert address_of(tuple(label.upper() for label in labels)) == strip_address(address)


@pytest.mark.parametrize("address", ["", "x" * 64, ".".join(["x" * 60] * 4), "/" * 200, "\ud800"])
def test_addresses_without_a_name(address: str) -> None:
    assert labels_of(address) is None


@pytest.mark.parametrize(
    "labels", [("--61",), ("--s", ""), ("",), (), ("--xx",), ("a--",), ("-a",), ("_tcp", "a"), ("--ff",), ("a", "--u")]
)
def test_names_without_an_address(labels: tuple[str, ...]) -> None:
    found = address_of(labels)
    assert found is None or labels_of(found) == labels


@given(st.text(max_size=80) | st.text(alphabet="ab-_./A", max_size=40))
def test_each_address_has_a_name_of_its_own(address: str) -> None:
    labels = labels_of(address)
    if labels is None:
        return
    assert address_of(labels) == strip_address(address)
    assert all(LABEL.fullmatch(label) and len(label) <= MAX_LABEL for label in labels)
    assert sum(len(label) + 1 for label in labels) <= MAX_LABELS


@given(st.lists(st.text(alphabet="abcdefsmup0123456789-_", max_size=20), max_size=5))
def test_each_name_has_one_address(labels: list[str]) -> None:
    address = address_of(tuple(labels))
    if address is not None:
        assert labels_of(address) == tuple(labels)
