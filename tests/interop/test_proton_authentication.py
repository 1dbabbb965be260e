"""Who may come in, with Qpid Proton over TCP and TLS: ANONYMOUS, PLAIN, EXTERNAL, and SCRAM where Proton knows it."""

from __future__ import annotations

import pytest

from tests.interop.conftest import USERS
from tests.interop.harness import Certificates, Proton

pytestmark = pytest.mark.interop

REFUSED = "transport error amqp:unauthorized-access"


@pytest.fixture(params=["proton", "proton_with_scram"])
def proton(request: pytest.FixtureRequest) -> Proton:
    """Debian's Proton, and one that was built with Cyrus SASL."""
    found: Proton = request.getfixturevalue(request.param)
    return found


def test_anonymous(proton: Proton, address: str) -> None:
    assert proton.program("hello", address=address, **proton.to("open")).output() == ["Hello ANONYMOUS None"]


@pytest.mark.parametrize("user", USERS)
def test_users_on_an_open_line(proton: Proton, address: str, user: str) -> None:
    for mechanism in proton.mechanisms:
        login = {"user": user, "password": USERS[user], "mechanisms": mechanism, "insecure": True}
        program = proton.program("hello", address=address, **login, **proton.to("users"))
        assert program.output() == [f"Hello {mechanism} None"]


def test_users_over_tls(proton: Proton, address: str) -> None:
    for mechanism in proton.mechanisms:
        login = {"user": "alice", "password": USERS["alice"], "mechanisms": mechanism}
        (line,) = proton.program("hello", address=address, **login, **proton.to("tls")).output()
        assert line.startswith(f"Hello {mechanism} TLSv1")


@pytest.mark.parametrize("user", ["alice", "mallory"])
def test_a_wrong_password_and_an_unknown_user_are_refused_alike(proton: Proton, address: str, user: str) -> None:
    for mechanism in proton.mechanisms:
        login = {"user": user, "password": "wrong", "mechanisms": mechanism, "insecure": True}
        program = proton.program("hello", address=address, **login, **proton.to("users"))
        assert program.output(status=None) == [REFUSED]


def test_plain_is_not_offered_on_an_open_line_unless_told(proton: Proton, address: str) -> None:
    login = {"user": "alice", "password": USERS["alice"], "mechanisms": "PLAIN", "insecure": True}
    program = proton.program("hello", address=address, **login, **proton.to("scram"))
    assert program.output(status=None) == [REFUSED]


def test_the_strongest_that_both_have_is_used(proton: Proton, address: str) -> None:
    login = {"user": "alice", "password": USERS["alice"], "insecure": True}
    program = proton.program("hello", address=address, **login, **proton.to("users"))
    assert program.output() == [f"Hello {proton.mechanisms[-1]} None"]


def test_tls_without_a_user(proton: Proton, address: str) -> None:
    (line,) = proton.program("hello", address=address, mechanisms="ANONYMOUS", **proton.to("tls")).output()
    assert line.startswith("Hello ANONYMOUS TLSv1")


def test_external_with_a_client_certificate(proton: Proton, address: str) -> None:
    (line,) = proton.program("hello", address=address, mechanisms="EXTERNAL", **proton.to("mutual")).output()
    assert line.startswith("Hello EXTERNAL TLSv1")


def test_a_client_certificate_of_strangers_is_refused(proton: Proton, certificates: Certificates, address: str) -> None:
    stranger = {"cert": certificates.stranger, "key": certificates.stranger_key, "mechanisms": "EXTERNAL"}
    (line,) = proton.program("hello", address=address, **{**proton.to("mutual"), **stranger}).output(status=None)
    assert line.startswith("transport error")


def test_no_client_certificate_is_refused(proton: Proton, certificates: Certificates, address: str) -> None:
    url = proton.to("mutual")["url"]
    (line,) = proton.program("hello", address=address, url=url, ca=certificates.ca).output(status=None)
    assert line.startswith("transport error")


def test_who_has_to_be_known_and_shows_nothing_is_refused_in_order(
    proton: Proton, certificates: Certificates, address: str
) -> None:
    """The certificate is not asked for in the handshake here, and ANONYMOUS is not offered."""
    assert proton.program("hello", address=address, **proton.to("known")).output(status=None) == [REFUSED]
    shown = {"cert": certificates.client, "key": certificates.client_key}
    (line,) = proton.program("hello", address=address, **proton.to("known"), **shown).output()
    assert line.startswith("Hello EXTERNAL TLSv1")
