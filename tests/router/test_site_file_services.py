"""Services in a site file: what is missing, what makes no sense for a scheme, and ports that two want."""

from __future__ import annotations

import pytest

from tests.router.simple_services import install
from tests.router.site_file import SiteFile


@pytest.fixture(autouse=True)
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def said(site: SiteFile, *keys: str) -> list[str]:
    return site.errors("[[service]]\n" + "\n".join(keys) + "\n")


GOOD = 'listen = "tcp://:5432"'
SERVER = 'connect = "tcp://db:5432"'
ADDRESS = 'address = "q"'


@pytest.mark.parametrize("end", [GOOD, SERVER])
def test_a_place_and_an_address_are_enough(site: SiteFile, end: str) -> None:
    assert said(site, end, ADDRESS) == []


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ((ADDRESS,), '1:1: service[0]: one of "listen" and "connect" is missing'),
        ((GOOD, SERVER, ADDRESS), '3:1: service[0].connect: "listen" and "connect" exclude one another'),
        ((GOOD,), "1:1: service[0].address: missing"),
        ((GOOD, 'address = "_topo/x"'), '3:11: service[0].address: "_topo/x" begins with "_", as addresses of routers'),
        ((GOOD, ADDRESS, "verify_hostname = true"), "4:1: service[0].verify_hostname: means nothing where a service li"),
        ((SERVER, ADDRESS, "always_open = true"), "4:1: service[0].always_open: means nothing where a service connects"),
        ((GOOD, ADDRESS, 'alpn = ["h2"]'), "4:1: service[0].alpn: tcp has no TLS without an ssl_profile; write ssl_pro"),
        ((GOOD, ADDRESS, "addresses = { a = 1 }"), '4:1: service[0].addresses: "address" and "addresses" exclude'),
        ((GOOD, 'multi_address_strategy = "weighted"'), "1:1: service[0].addresses: missing; multi_address_strategy ch"),
        ((GOOD, "addresses = { a = -1 }"), "3:19: service[0].addresses.a: -1 is out of range; allowed: 0 to 1000000"),
        ((GOOD, 'addresses = ["a"]'), "3:13: service[0].addresses: expected a table of addresses, got a list; write {"),
        ((SERVER, ADDRESS, "addresses = { a = 1 }"), "4:1: service[0].addresses: means nothing where a service conn"),
        (('listen = "tls://:1"', ADDRESS), "1:1: service[0].ssl_profile: missing; tls needs certificates"),
        ((GOOD, ADDRESS, 'ssl_profile = "x"'), '4:15: service[0].ssl_profile: no [[ssl_profile]] has the name "x"'),
        ((GOOD, ADDRESS, "port = 1"), '4:1: service[0].port: unknown key; use "listen" or "connect"'),
        (('listen = "tpc://:5432"', ADDRESS), '2:10: service[0].listen: the URL "tpc://:5432" has the scheme "tpc", '),
        (('listen = "tcp://h"', ADDRESS), '2:10: service[0].listen: the URL "tcp://h" names no port, and tcp has none'),
        (('listen = "h:5432"', ADDRESS), '2:10: service[0].listen: the URL "h:5432" is not of the form SCHEME://HOST:'),
        (('listen = "tcp://h:5432/x"', ADDRESS), '2:10: service[0].listen: the URL "tcp://h:5432/x" has "/x" behind '),
        (('connect = "tcp://:5432"', ADDRESS), '2:11: service[0].connect: the URL "tcp://:5432" names no host'),
        (('connect = "tcp://h:0"', ADDRESS), "2:11: service[0].connect: port 0 cannot be connected to; allowed: 1 to 6"),
        (('listen = "tcp://h:x"', ADDRESS), '2:10: service[0].listen: the URL "tcp://h:x" has the port "x", which is'),
    ],
)  # fmt: skip
def test_a_mistake_is_told_where_it_stands(site: SiteFile, keys: tuple[str, ...], error: str) -> None:
    (line,) = said(site, *keys)
    assert line.startswith(f"site.toml:{error}")


def test_a_profile_has_to_serve_what_the_service_needs(certificates: SiteFile) -> None:
    profile = '[[ssl_profile]]\nname = "{}"\n{}\n'
    text = (
        profile.format("none", 'ca_cert_file = "ca.pem"')
        + profile.format("bare", 'cert_file = "both.pem"')
        + f'[[service]]\nlisten = "tls://:1"\n{ADDRESS}\nssl_profile = "none"\n'
        + f'[[service]]\nlisten = "tls://:2"\n{ADDRESS}\nssl_profile = "bare"\nauthenticate_peer = true\n'
    )
    assert certificates.errors(text) == [
        'site.toml:10:15: service[0].ssl_profile: profile "none" has no cert_file, which a listener needs',
        'site.toml:15:21: service[1].authenticate_peer: needs ca_cert_file in profile "bare"',
    ]


def test_two_cannot_have_one_port(site: SiteFile) -> None:
    entry = '[[service]]\nlisten = "tcp://{}:{}"\naddress = "q"\n'
    text = '[[listener]]\nurl = "amqp://127.0.0.1:5672"\n' + "".join(
        entry.format(host, port) for host, port in (("127.0.0.1", 5672), ("", 80), ("127.0.0.1", 80), ("", 0), ("", 0))
    )
    assert site.errors(text) == [
        'site.toml:4:10: service[0].listen: "127.0.0.1:5672" is taken by listener[0] already',
        'site.toml:10:10: service[2].listen: "127.0.0.1:80" is taken by service[1] already',
    ]


def test_services_without_a_name_are_called_by_their_place(site: SiteFile) -> None:
    entry = f"[[service]]\n{{}}\n{ADDRESS}\n"
    config = site.load(entry.format(GOOD) + entry.format(SERVER) + entry.format(SERVER))
    assert [service.name for service in config.services] == ["listen/:5432", "connect/db:5432", "connect/db:5432/2"]
