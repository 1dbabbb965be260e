"""SCRAM as Cyrus SASL speaks it: the library that the C routers, and Protons built with it, log in with."""

from __future__ import annotations

import pytest

from tests.interop.conftest import USERS
from tests.interop.harness import Cyrus

pytestmark = [pytest.mark.interop, pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])]


@pytest.mark.parametrize("user", USERS)
def test_the_right_password(cyrus: Cyrus, mechanism: str, user: str) -> None:
    assert cyrus.login(mechanism, user, USERS[user]).output() == [f"{mechanism} opened"]


@pytest.mark.parametrize("user", ["alice", "mallory"])
def test_a_wrong_password_and_an_unknown_user_are_refused_alike(cyrus: Cyrus, mechanism: str, user: str) -> None:
    assert cyrus.login(mechanism, user, "wrong").output() == ["refused with code 1"]
