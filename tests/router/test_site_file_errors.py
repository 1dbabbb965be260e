"""Every mistake in a site file is reported at once: file, line, column, key, what, what is allowed, what was meant."""

from __future__ import annotations

import pytest

from tests.router.site_file import SiteFile
from van.router.config import ConfigurationError, load_config


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(site: SiteFile) -> None:
    assert site.errors(
        """
        [router]
        idd = "east"
        mode = "interor"
        memory_limit = "12 parsecs"

        [[listener]]
        url = "amqp://127.0.0.1:5672"
        maxFrameSize = 5
        max_links = "x"
        ssl_profile = "sitte"

        [[ssl_profile]]
        name = "site"
        cert_file = "gone.pem"

        [[address]]
        prefix = "news"
        distribution = "multcast"
        priority = 10
        """
    ) == [
        "site.toml:2:1: router.idd: unknown key; allowed: id, mode, default_distribution, metadata, memory_limit, "
        'max_connections, workers, users_file, stream_stall_seconds, hello_interval_seconds, hello_max_age_seconds, '
        'ra_interval_seconds, ra_interval_flux_seconds, remote_ls_max_age_seconds; did you mean "id"?',
        'site.toml:3:8: router.mode: unknown value "interor"; allowed: "standalone", "interior", "edge"; did you mean "interior"?',
        'site.toml:4:16: router.memory_limit: expected a size, got "12 parsecs"; allowed: 1 MiB to 1 TiB, as an integer '
        'of octets or a text such as "256 MiB"',
        "site.toml:8:1: listener[0].maxFrameSize: unknown key; allowed: name, role, cost, ssl_profile, "
        "allow_insecure_plain, max_frame_size, max_sessions, max_session_frames, max_links, link_capacity, "
        "max_message_size, idle_timeout_seconds, initial_handshake_timeout_seconds, url, sasl_mechanisms, "
        'authenticate_peer, max_connections, failover_urls; did you mean "max_frame_size"?',
        'site.toml:9:13: listener[0].max_links: expected an integer, got "x"; allowed: 1 to 1000000',
        'site.toml:10:15: listener[0].ssl_profile: no [[ssl_profile]] has the name "sitte"; allowed: "site"; '
        'did you mean "site"?',
        "site.toml:10:15: listener[0].ssl_profile: amqp has no TLS; did you mean \"amqps\"?",
        "site.toml:14:13: ssl_profile[0].cert_file: cannot read gone.pem: No such file or directory",
        'site.toml:18:16: address[0].distribution: unknown value "multcast"; allowed: "closest", "balanced", '
        '"multicast", "unavailable"; did you mean "multicast"?',
        "site.toml:19:12: address[0].priority: 10 is out of range; allowed: 0 to 9",
    ]


def test_a_key_is_found_wherever_toml_lets_it_stand(site: SiteFile) -> None:
    assert site.errors(
        """
        router.mode = 1            # dotted
        listener = [               # inline tables
            { url = "amqp://127.0.0.1:5672", cost = 0 },
            { url = "amqp://127.0.0.1:5673",
              max_links = 0 },
        ]
        [log.levels]               # before its parent
        amqp = "loud"
        [[address]]
        prefix = "a"
        priority = -1
        [log]                      # out of order
        "level" = "quiet"
        [[address]]
        prefix = '''b'''
        priority = "high"
        """
    ) == [
        'site.toml:1:15: router.mode: unknown value 1; allowed: "standalone", "interior", "edge"',
        "site.toml:3:45: listener[0].cost: 0 is out of range; allowed: 1 to 2147483647",
        "site.toml:5:19: listener[1].max_links: 0 is out of range; allowed: 1 to 1000000",
        'site.toml:8:8: log.levels.amqp: unknown value "loud"; allowed: "debug", "info", "warning", "error", "critical"',
        "site.toml:11:12: address[0].priority: -1 is out of range; allowed: 0 to 9",
        'site.toml:13:11: log.level: unknown value "quiet"; allowed: "debug", "info", "warning", "error", "critical"',
        'site.toml:16:12: address[1].priority: expected an integer, got "high"; allowed: 0 to 9',
    ]


@pytest.mark.parametrize(("text", "place"), [("[router\n", "1:8"), ("[router]\nid = \n", "2:6"), ("a = 1 2\n", "1:7")])
def test_what_is_not_toml_is_refused_where_it_stops_to_be(site: SiteFile, text: str, place: str) -> None:
    (line,) = site.errors(text)
    assert line.startswith(f"site.toml:{place}: not TOML: ")


def test_a_key_given_twice_is_not_toml(site: SiteFile) -> None:
    (line,) = site.errors('[router]\nid = "a"\nid = "b"\n')
    assert line.startswith("site.toml:")
    assert "not TOML" in line


def test_a_file_that_is_not_text_is_refused_at_its_first_wrong_octet(site: SiteFile) -> None:
    site.path.write_bytes(b'[router]\nid = "\xff"\n')
    with pytest.raises(ConfigurationError) as caught:
        load_config(site.path)
    assert caught.value.lines == [f"{site.path}:2:7: not UTF-8"]


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ('host = "::"', '3:1: listener[0].host: unknown key; use "url"'),
        ("port = 5672", '3:1: listener[0].port: unknown key; use "url"'),
        ("require_ssl = true", "3:1: listener[0].require_ssl: unknown key; use an amqps or wss URL"),
        ("policy_vhost = 'x'", "3:1: listener[0].policy_vhost: not available in this version"),
        (
            'role = "inter-edge"',
            '3:8: listener[0].role: "inter-edge" is not available in this version; '
            'allowed: "normal", "inter-router", "edge", "route-container"',
        ),
        ('role = "inter_router"', '3:8: listener[0].role: unknown value "inter_router"; allowed: "normal", "inter-router", "edge", "route-container"; '
         'did you mean "inter-router"?'),
        ("max_frame_size = 511", "3:18: listener[0].max_frame_size: 511 is out of range; allowed: 512 to 16777216"),
        ("max_frame_size = true", "3:18: listener[0].max_frame_size: expected an integer, got true; "
         "allowed: 512 to 16777216"),
        ("authenticate_peer = 'yes'", '3:21: listener[0].authenticate_peer: expected true or false, got "yes"'),
        ("idle_timeout_seconds = nan", "3:24: listener[0].idle_timeout_seconds: nan is out of range; allowed: 0 to 86400"),
        ("idle_timeout_seconds = '1'", '3:24: listener[0].idle_timeout_seconds: expected a number of seconds, got "1"; '
         "allowed: 0 to 86400"),
        ("name = ''", "3:8: listener[0].name: an empty text"),
        ("name = 5", "3:8: listener[0].name: expected a text, got 5"),
        ('name = "a\\tb"', "3:8: listener[0].name: a control character in the text"),
        ("sasl_mechanisms = []", "3:19: listener[0].sasl_mechanisms: an empty list"),
        ("sasl_mechanisms = 'ANONYMOUS'", '3:19: listener[0].sasl_mechanisms: expected a list, got "ANONYMOUS"; '
         'write ["ANONYMOUS"]'),
        ("sasl_mechanisms = ['ANONYMOUS', 'anonymous']",
         '3:33: listener[0].sasl_mechanisms[1]: unknown value "anonymous"; allowed: "ANONYMOUS", "PLAIN", "EXTERNAL", '
         '"SCRAM-SHA-256", "SCRAM-SHA-512"; did you mean "ANONYMOUS"?'),
        ("sasl_mechanisms = ['ANONYMOUS', 'ANONYMOUS']",
         '3:33: listener[0].sasl_mechanisms[1]: "ANONYMOUS" is listed twice'),
        ("failover_urls = ['amqp://:5']", '3:18: listener[0].failover_urls[0]: the URL "amqp://:5" names no host'),
        ("failover_urls = ['amqp://a:0']", "3:18: listener[0].failover_urls[0]: port 0 cannot be connected to; "
         "allowed: 1 to 65535"),
    ],
)  # fmt: skip
def test_one_wrong_key_of_a_listener(site: SiteFile, key: str, line: str) -> None:
    assert site.errors(f"[[listener]]\nurl = 'amqp://127.0.0.1:5672'\n{key}\n")[0].removeprefix("site.toml:").startswith(line)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("localhost:5672", 'the URL "localhost:5672" has no scheme; did you mean "amqp://localhost:5672"'),
        ("tcp://localhost", 'has the scheme "tcp"'),
        ("amqp://localhost:99999", 'has the port "99999"'),
        ("amqp://alice@localhost", "a user does not belong into this URL; connectors have sasl_username"),
        ("amqp://localhost/orders", 'an address does not belong into this URL: "orders"'),
        ("ws://localhost/van?x=1", "a query or a fragment does not belong into this URL"),
    ],
)
def test_urls_that_are_none_of_a_listener(site: SiteFile, url: str, what: str) -> None:
    (line,) = site.errors(f"[[listener]]\nurl = '{url}'\n")
    assert line.startswith("site.toml:2:7: listener[0].url: ")
    assert what in line


def test_no_password_of_a_url_is_shown(site: SiteFile) -> None:
    lines = site.errors(
        """
        [[listener]]
        url = "amqp://alice:sesame@localhost:x"
        [[connector]]
        url = "amqp://bob:sesame@hub"
        proxy = "ftp://carol:sesame@proxy:21"
        """
    )
    assert len(lines) == 3
    assert "sesame" not in "".join(lines)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("router = 5\n", ["1:10: router: expected a table, got 5"]),
        ("[[router]]\n", ["1:1: router: expected one [router], got a list of them"]),
        ("[listener]\nurl = 'amqp://localhost'\n",
         ["1:1: listener: expected a list of tables, got a table; write [[listener]]"]),
        ("listener = [1]\n", ["1:13: listener[0]: expected a table, got 1"]),
        ("[[listener]]\ncost = 1\n", ["1:1: listener[0].url: missing"]),
        ("[[listner]]\n", ["1:1: listner: unknown key; allowed: router, log, listener, connector, ssl_profile, address, auto_link, service, dns; "
                           'did you mean "listener"?']),
        ("[[vhost]]\n", ["1:1: vhost: not available in this version; allowed: router, log, listener, connector, "
                           "ssl_profile, address, auto_link, service, dns"]),
        ("[http]\n", ["1:1: http: not available in this version; allowed: router, log, listener, connector, "
                      "ssl_profile, address, auto_link, service, dns"]),
        ("[router]\nhello_interval_seconds = 0\n",
         ["2:26: router.hello_interval_seconds: 0 is out of range; allowed: 0.1 to 86400"]),
        ("[router]\nid = 'a|b c'\n", ['2:6: router.id: "a|b c" contains " ", "|"; allowed: no blanks, no "|" and no "$"']),
        ("[router]\nworker_threads = 4\n", ["2:1: router.worker_threads: unknown key; use \"workers\", which are processes"]),
        ("[router]\nmemory_limit = 1000\n",
         ['2:16: router.memory_limit: 1000 is out of range; allowed: 1 MiB to 1 TiB, as an integer of octets or a text '
          'such as "256 MiB"']),
        ("[log]\nlevels = { amqq = 'info' }\n",
         ["2:12: log.levels.amqq: unknown key; allowed: amqp, routing, adaptors, transport, management, router; "
          'did you mean "amqp"?']),
    ],
)  # fmt: skip
def test_one_mistake_of_a_section(site: SiteFile, text: str, lines: list[str]) -> None:
    assert site.errors(text) == [f"site.toml:{line}" for line in lines]
