"""Rules between keys: nobody is let in by accident, no password is shown, and what cannot work is refused before it runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.router.site_file import SiteFile

PROFILE = """
[[ssl_profile]]
name = "site"
ca_cert_file = "ca.pem"
cert_file = "cert.pem"
private_key_file = "key.pem"
"""

USERS = '[router]\nusers_file = "users.toml"\n'


@pytest.fixture
def users(certificates: SiteFile) -> SiteFile:
    (certificates.folder / "users.toml").write_text('[users]\nalice = "pencil"\n')
    return certificates


def listener(*keys: str, url: str = "amqp://127.0.0.1:5672") -> str:
    return "\n".join(["[[listener]]", f'url = "{url}"', *keys, ""])


def connector(*keys: str, url: str = "amqp://hub:5672") -> str:
    return "\n".join(["[[connector]]", f'url = "{url}"', *keys, ""])


# --- who may connect


@pytest.mark.parametrize("url", ["amqp://0.0.0.0", "amqp://[::]:5672", "amqp://:5672", "amqp://10.0.0.1", "ws://router.example"])
def test_a_listener_that_is_not_on_loopback_must_say_who_may_connect(site: SiteFile, url: str) -> None:
    assert site.errors(listener(url=url)) == [
        "site.toml:1:1: listener[0].sasl_mechanisms: missing; a listener that is not on loopback says who may connect; "
        '["ANONYMOUS"] lets everybody in'
    ]


@pytest.mark.parametrize("url", ["amqp://127.0.0.1", "amqp://127.1.2.3:1", "amqp://[::1]", "ws://localhost:8080/van"])
def test_on_loopback_everybody_may_connect(site: SiteFile, url: str) -> None:
    assert site.load(listener(url=url)).listeners[0].sasl_mechanisms == ("ANONYMOUS",)


def test_authentication_cannot_be_required_where_only_anonymous_is_offered(site: SiteFile) -> None:
    assert site.errors(listener("authenticate_peer = true")) == [
        "site.toml:3:21: listener[0].authenticate_peer: nobody can connect: ANONYMOUS is the only mechanism"
    ]


def test_plain_alone_is_refused_without_tls(users: SiteFile) -> None:
    assert users.errors(USERS + listener('sasl_mechanisms = ["PLAIN"]')) == [
        "site.toml:5:20: listener[0].sasl_mechanisms[0]: PLAIN shows passwords to the network; "
        "use amqps or wss, or allow_insecure_plain = true"
    ]


def test_plain_beside_others_is_withheld_without_tls_and_a_warning_says_so(users: SiteFile) -> None:
    site = users.load(USERS + listener('sasl_mechanisms = ["PLAIN", "SCRAM-SHA-256"]'))
    assert site.warnings == (
        "listener[0] amqp://127.0.0.1:5672 does not offer PLAIN: no TLS, and allow_insecure_plain is false",
    )


def test_plain_in_the_clear_is_possible_for_who_asks_for_it_and_is_warned_about_off_loopback(users: SiteFile) -> None:
    mechanisms = ('sasl_mechanisms = ["PLAIN"]', "allow_insecure_plain = true")
    assert users.load(USERS + listener(*mechanisms)).warnings == ()
    assert users.load(USERS + listener(*mechanisms, url="amqp://0.0.0.0:5672")).warnings == (
        "listener[0] amqp://0.0.0.0:5672 takes passwords over an unencrypted network",
    )


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_passwords_need_users(site: SiteFile, mechanism: str) -> None:
    text = listener(f'sasl_mechanisms = ["ANONYMOUS", "{mechanism}"]')
    assert site.errors(text) == [
        f"site.toml:3:33: listener[0].sasl_mechanisms[1]: {mechanism} needs users_file in [router]"
    ]


def test_mistakes_of_the_users_file_are_reported_with_those_of_the_site_file(users: SiteFile) -> None:
    (users.folder / "users.toml").write_text("[users]\nalice = 5\n[user]\n")
    assert users.errors(USERS + "mode = 1\n") == [
        'site.toml:3:8: router.mode: unknown value 1; allowed: "standalone", "interior", "edge"',
        'users.toml:2:9: users.alice: expected a text; allowed: "env:NAME", "file:PATH", or the secret itself',
        'users.toml:3:1: user: unknown key; allowed: users; did you mean "users"?',
    ]


def test_a_users_file_that_cannot_be_read_is_reported_once(site: SiteFile) -> None:
    assert site.errors(USERS + listener('sasl_mechanisms = ["SCRAM-SHA-256"]')) == [
        "users.toml:1:1: cannot read the file: No such file or directory"
    ]


# --- TLS


@pytest.mark.parametrize("scheme", ["amqps", "wss"])
def test_a_listener_with_tls_needs_a_profile_with_a_certificate(certificates: SiteFile, scheme: str) -> None:
    assert certificates.errors(listener(url=f"{scheme}://localhost")) == [
        f"site.toml:1:1: listener[0].ssl_profile: missing; {scheme} needs certificates"
    ]
    text = listener('ssl_profile = "ca"', url=f"{scheme}://localhost")
    assert certificates.errors(text + '[[ssl_profile]]\nname = "ca"\nca_cert_file = "ca.pem"\n') == [
        'site.toml:3:15: listener[0].ssl_profile: profile "ca" has no cert_file, which a listener needs'
    ]


def test_a_profile_has_no_use_without_tls(certificates: SiteFile) -> None:
    assert certificates.errors(listener('ssl_profile = "site"', url="ws://localhost") + PROFILE) == [
        'site.toml:3:15: listener[0].ssl_profile: ws has no TLS; did you mean "wss"?'
    ]
    assert certificates.errors(connector('ssl_profile = "site"') + PROFILE) == [
        'site.toml:3:15: connector[0].ssl_profile: amqp has no TLS; did you mean "amqps"?'
    ]


def test_external_needs_tls_and_an_authority_for_clients(certificates: SiteFile) -> None:
    external = 'sasl_mechanisms = ["EXTERNAL"]'
    assert certificates.errors(listener(external)) == [
        "site.toml:3:20: listener[0].sasl_mechanisms[0]: EXTERNAL needs an amqps or wss URL"
    ]
    profile = PROFILE.replace('ca_cert_file = "ca.pem"\n', "")
    assert certificates.errors(listener(external, 'ssl_profile = "site"', url="amqps://localhost") + profile) == [
        'site.toml:3:20: listener[0].sasl_mechanisms[0]: EXTERNAL needs ca_cert_file in profile "site"'
    ]
    assert certificates.errors(listener(external, 'ssl_profile = "site"', url="amqps://localhost") + PROFILE) == []


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (("key.pem", "other-key.pem"), ["private_key_file: the key does not belong to the certificate of cert_file"]),
        (("key.pem", "garbage.pem"), ["private_key_file: no private key in PEM form in garbage.pem"]),
        (("cert.pem", "garbage.pem"), ["cert_file: garbage.pem holds no certificate in PEM form"]),
        (("ca.pem", "garbage.pem"), ["ca_cert_file: garbage.pem holds no certificate in PEM form"]),
        (("ca.pem", "gone.pem"), ["ca_cert_file: cannot read gone.pem: No such file or directory"]),
        (("key.pem", "locked.pem"), ["password: missing; the key is encrypted"]),
        (('key.pem"', 'locked.pem"\npassword = "wrong"'), ["password: wrong for the key"]),
        (('key.pem"', 'locked.pem"\npassword = "sesame"'), []),
        (('private_key_file = "key.pem"', ""), ["cert_file: no private key in PEM form in cert.pem"]),
        (('cert_file = "cert.pem"\nprivate_key_file = "key.pem"', 'cert_file = "both.pem"'), []),
        (('\ncert_file = "cert.pem"', ""), ["cert_file: missing; private_key_file needs it"]),
        (('name = "site"', 'name = "site"\nciphers = "NOTHING"'), ['ciphers: OpenSSL selects no cipher by "NOTHING"']),
        (('name = "site"', 'name = "site"\nuid_format = "nx"'),
         ['uid_format: unknown letter "x"; allowed: letters of csloun125']),
        (('name = "site"', 'name = "site"\nciphers = "ECDHE+AESGCM"\nprotocols = ["TLSv1.3"]'), []),
    ],
)
def test_certificate_files_are_what_they_should_be(
    certificates: SiteFile, change: tuple[str, str], lines: list[str]
) -> None:
    errors = certificates.errors(PROFILE.replace(*change))
    assert [error.partition("ssl_profile[0].")[2] for error in errors] == lines


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_key_that_may_not_be_read_is_reported(certificates: SiteFile) -> None:
    (certificates.folder / "key.pem").chmod(0)
    (line,) = certificates.errors(PROFILE)
    assert line.endswith("ssl_profile[0].private_key_file: cannot read key.pem: Permission denied")


# --- connectors


def test_a_connector_uses_what_it_has_the_means_for(certificates: SiteFile) -> None:
    site = certificates.load(
        connector()
        + connector('sasl_username = "alice"', 'sasl_password = "pencil"', url="amqp://a")
        + connector('sasl_username = "alice"', 'sasl_password = "pencil"', 'ssl_profile = "site"', url="wss://b/van")
        + connector('sasl_mechanisms = ["ANONYMOUS"]', 'ssl_profile = "site"', url="amqps://c")
        + PROFILE
    )
    assert [one.sasl_mechanisms for one in site.connectors] == [
        ("ANONYMOUS",),
        ("SCRAM-SHA-512", "SCRAM-SHA-256"),
        ("EXTERNAL", "SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"),
        ("ANONYMOUS",),
    ]


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (['sasl_username = "a"'], ["1:1: connector[0].sasl_password: missing; sasl_username needs it"]),
        (['sasl_password = "a"'], ["1:1: connector[0].sasl_username: missing; sasl_password needs it"]),
        (['sasl_mechanisms = ["PLAIN"]'],
         ["3:20: connector[0].sasl_mechanisms[0]: PLAIN needs sasl_username and sasl_password",
          "3:20: connector[0].sasl_mechanisms[0]: PLAIN shows passwords to the network; use amqps or wss, or "
          "allow_insecure_plain = true"]),
        (['sasl_mechanisms = ["EXTERNAL"]'],
         ["3:20: connector[0].sasl_mechanisms[0]: EXTERNAL needs an amqps or wss URL"]),
        (['sasl_mechanisms = ["EXTERNAL"]', 'failover_urls = ["amqps://b"]'],
         ["3:20: connector[0].sasl_mechanisms[0]: EXTERNAL needs an ssl_profile with cert_file"]),
        (['proxy = "ftp://proxy:3128"'],
         ['3:9: connector[0].proxy: the proxy URL "ftp://proxy:3128" has the scheme "ftp", none of http, socks5, socks5h, '
          'socks4, socks4a']),
        (['sasl_username = "a"', 'sasl_password = "env:VAN_TEST_UNSET"'],
         ['4:17: connector[0].sasl_password: the environment has no variable "VAN_TEST_UNSET"']),
        (['sasl_username = "a"', 'sasl_password = "file:gone.txt"'],
         ["4:17: connector[0].sasl_password: cannot read gone.txt: No such file or directory"]),
    ],
)  # fmt: skip
def test_one_mistake_of_a_connector(site: SiteFile, keys: list[str], lines: list[str]) -> None:
    assert site.errors(connector(*keys)) == [f"site.toml:{line}" for line in lines]


def test_secrets_come_from_the_environment_from_files_or_from_the_text(
    site: SiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAN_TEST_SECRET", "from the environment")
    (site.folder / "secret.txt").write_text("from a file\n")
    keys = ('sasl_username = "alice"', "sasl_password = '{}'")
    passwords = ["env:VAN_TEST_SECRET", "file:secret.txt", "the:text"]
    loaded = site.load("".join(connector(keys[0], keys[1].format(text)) for text in passwords))
    assert [one.sasl_password for one in loaded.connectors] == ["from the environment", "from a file", "the:text"]
    assert "the environment" not in repr(loaded)


# --- names, ports and patterns are taken once


def test_names_are_unique_within_their_section(certificates: SiteFile) -> None:
    text = listener('name = "a"') + listener('name = "a"', url="amqp://127.0.0.1:1") + connector('name = "a"')
    assert certificates.errors(text + PROFILE + PROFILE) == [
        'site.toml:6:8: listener[1].name: "a" is the name of listener[0] already',
        'site.toml:18:8: ssl_profile[1].name: "site" is the name of ssl_profile[0] already',
    ]


def test_entries_without_a_name_get_one_from_their_url(site: SiteFile) -> None:
    loaded = site.load(
        listener(url="amqp://127.0.0.1:0") + listener(url="amqp://127.0.0.1:0") + connector() + "[[address]]\nprefix = 'a.b'\n"
    )
    names = [[one.name for one in section] for section in (loaded.listeners, loaded.connectors, loaded.addresses)]
    assert names == [
        ["listener/127.0.0.1:0", "listener/127.0.0.1:0/2"], ["connector/hub:5672"], ["a.b"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ("amqp://localhost:5672", "amqp://LOCALHOST", True),
        ("amqp://127.0.0.1", "ws://127.0.0.1:5672", True),
        ("amqp://0.0.0.0", "amqp://127.0.0.1", True),
        ("amqp://:5672", "amqp://127.0.0.1", True),
        ("amqp://[::]", "amqp://[::1]", True),
        ("amqp://0.0.0.0", "amqp://[::]", False),
        ("amqp://127.0.0.1", "amqp://127.0.0.2", False),
        ("amqp://127.0.0.1", "amqp://127.0.0.1:5673", False),
        ("amqp://127.0.0.1:0", "amqp://127.0.0.1:0", False),
    ],
)
def test_a_port_has_one_listener(site: SiteFile, first: str, second: str, taken: bool) -> None:
    anonymous = 'sasl_mechanisms = ["ANONYMOUS"]'
    errors = site.errors(listener(anonymous, url=first) + listener(anonymous, url=second))
    assert [error.rpartition("is taken by")[2] for error in errors] == ([" listener[0] already"] if taken else [])


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("pattern = 'news.#'", "4:11: address[1].pattern: matches the same as address[0]"),
        ("pattern = 'news/#'", "4:11: address[1].pattern: matches the same as address[0]"),
        ("prefix = 'news'", "4:10: address[1].prefix: matches the same as address[0]"),
        ("pattern = 'news.*'", ""),
        ("distribution = 'closest'", '3:1: address[1]: one of "prefix" and "pattern" is missing'),
        ("prefix = 'a'\npattern = 'b'", '5:1: address[1].pattern: "prefix" and "pattern" exclude one another'),
        ("prefix = 'a.'", '4:10: address[1].prefix: "a." ends with a separator; did you mean "a"?'),
        ("prefix = 'a.*'", '4:10: address[1].prefix: "a.*" has a wildcard; did you mean the key "pattern"?'),
        ("pattern = 'a*'", '4:11: address[1].pattern: "a*" has a wildcard inside a token; '
         'allowed: "*" or "#" alone between separators'),
    ],
)  # fmt: skip
def test_addresses_match_by_one_pattern_each(site: SiteFile, entry: str, line: str) -> None:
    assert site.errors(f"[[address]]\nprefix = 'news'\n[[address]]\n{entry}\n") == ([f"site.toml:{line}"] if line else [])


def test_a_frame_is_small_beside_the_memory_limit(site: SiteFile) -> None:
    assert site.errors("[router]\nmemory_limit = '1 MiB'\n" + listener("max_frame_size = 131073")) == [
        "site.toml:5:18: listener[0].max_frame_size: 131073 is too large for a memory_limit of 1048576; "
        "allowed: at most an eighth of it, 131072"
    ]


# --- a wrong key does not cause further errors of its own


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (listener("ssl_profile = 5", url="amqps://localhost"), 1),
        (listener("sasl_mechanisms = 5", url="amqp://0.0.0.0"), 1),
        ("[router]\nusers_file = 5\n" + listener('sasl_mechanisms = ["SCRAM-SHA-256"]'), 1),
        (listener('ssl_profile = "p"', url="amqps://localhost") + '[[ssl_profile]]\nname = "p"\ncert_file = 5\n', 1),
        (connector("ssl_profile = 5", 'sasl_mechanisms = ["EXTERNAL"]', url="amqps://a"), 1),
        (listener("max_links = 0", "ssl_profile = 'x'", url="amqps://localhost"), 2),
        ("[[address]]\nprefix = 5\n", 1),
    ],
)
def test_a_wrong_key_is_one_error(site: SiteFile, text: str, count: int) -> None:
    assert len(site.errors(text)) == count


# --- what is read


def test_a_site_file_as_operators_write_it(certificates: SiteFile) -> None:
    site = certificates.load(
        """
        [router]
        id = "east"
        mode = "interior"
        memory_limit = "1.5 GiB"

        [[listener]]
        url = "amqps://0.0.0.0"
        ssl_profile = "site"
        sasl_mechanisms = ["EXTERNAL"]
        max_message_size = "64 KiB"

        [[ssl_profile]]
        name = "site"
        ca_cert_file = "ca.pem"
        cert_file = "cert.pem"
        private_key_file = "key.pem"

        [[address]]
        prefix = "news"
        distribution = "multicast"

        [[address]]
        pattern = "jobs/*.eu"
        priority = 7

        [log]
        levels = { amqp = "debug" }
        """
    )
    assert site.path == certificates.path
    assert (site.router.id, site.router.mode, site.router.memory_limit) == ("east", "interior", 3 * 512 * 1024 * 1024)
    assert (site.listeners[0].url.port, site.listeners[0].max_message_size) == (5671, 65536)
    assert site.ssl_profiles["site"].cert_file == certificates.folder / "cert.pem"
    assert [address.tokens for address in site.addresses] == [("news", "#"), ("jobs", "*", "eu")]
    assert (site.log.level, site.log.levels) == ("info", {"amqp": "debug"})
    assert site.warnings == (
        "mode interior, and no listener or connector has role inter-router or edge: this router stands alone",
    )


def test_an_empty_file_is_a_router_that_nobody_can_reach(site: SiteFile) -> None:
    assert site.load("").warnings == ("no listener and no connector: nobody can reach this router",)


def test_file_names_start_at_the_site_files_folder(certificates: SiteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path("/"))
    assert certificates.load(PROFILE).ssl_profiles["site"].ca_cert_file == certificates.folder / "ca.pem"


# --- processes


def test_each_process_needs_memory(site: SiteFile) -> None:
    text = "[router]\nmemory_limit = '8 MiB'\nworkers = {}\n" + listener("max_frame_size = 65537")
    assert site.load(text.format(8)).router.memory_share == 1 << 20
    assert site.errors(text.format(16)) == [
        "site.toml:3:11: router.workers: too many for a memory_limit of 8388608: each gets less than 1 MiB",
        "site.toml:6:18: listener[0].max_frame_size: 65537 is too large for a memory_limit of 8388608 in 16 processes; "
        "allowed: at most 65536",
    ]


def test_an_edge_router_is_one_process(site: SiteFile) -> None:
    text = '[router]\nid = "e"\nmode = "edge"\nworkers = {}\n' + connector('role = "edge"')
    assert site.errors(text.format(1)) == []
    assert site.errors(text.format(2)) == [
        "site.toml:4:11: router.workers: an edge router is one process in this version; allowed: 1"
    ]


def test_a_system_that_hands_on_no_connections_has_one_process(site: SiteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SCM_RIGHTS")
    assert site.errors("[router]\nworkers = 2\n" + listener()) == [
        "site.toml:2:11: router.workers: this system cannot hand connections from process to process; allowed: 1"
    ]
    assert site.errors("[router]\nworkers = 1\n" + listener()) == []
