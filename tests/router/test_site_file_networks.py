"""What a site file says of other routers: modes and roles that fit, timers in order, limits by role, and who is warned."""

from __future__ import annotations

import pytest

from tests.router.site_file import SiteFile
from tests.router.test_site_file_rules import connector, listener

ANONYMOUS = 'sasl_mechanisms = ["ANONYMOUS"]'


def router(mode: str, *keys: str) -> str:
    return "\n".join(["[router]", f'mode = "{mode}"', *keys, ""])


def role(name: str) -> str:
    return f'role = "{name}"'


# --- modes and roles


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("standalone", listener()),
        ("standalone", listener(role("normal")) + connector(role("normal"))),
        ("interior", listener() + listener(role("inter-router"), url="amqp://127.0.0.1:1")),
        ("interior", listener(role("edge")) + connector(role("inter-router"), "cost = 3")),
        # A broker beside the network.
        ("interior", connector(role("inter-router")) + connector(url="amqps://broker")),
        ("edge", connector(role("edge"))),
        ("edge", connector(role("edge"), 'name = "standby"') + connector(role("edge")) + listener()),
        ("edge", connector(role("edge")) + connector(url="amqps://broker")),
    ],
)
def test_roles_that_a_mode_allows(site: SiteFile, mode: str, text: str) -> None:
    assert site.load(router(mode) + text).warnings == ()


@pytest.mark.parametrize(
    ("mode", "text", "error"),
    [
        ("standalone", listener(role("inter-router")),
         'listener[0].role: "inter-router" connects routers, and [router] mode is "standalone"; write mode = "interior"'),
        ("standalone", listener(role("edge")),
         'listener[0].role: "edge" connects routers, and [router] mode is "standalone"; write mode = "interior"'),
        ("standalone", connector(role("inter-router")),
         'connector[0].role: "inter-router" connects routers, and [router] mode is "standalone"; write mode = "interior"'),
        ("standalone", connector(role("edge")),
         'connector[0].role: "edge" connects routers, and [router] mode is "standalone"; write mode = "edge"'),
        ("interior", connector(role("edge")),
         'connector[0].role: a connector of role "edge" leads from an edge router to an interior one, '
         'and [router] mode is "interior"; did you mean role = "inter-router"?'),
        ("edge", connector(role("inter-router")),
         'connector[0].role: an edge router has no connectors of role "inter-router"; did you mean role = "edge"?'),
        ("edge", connector(role("edge")) + listener(role("inter-router")),
         'listener[0].role: an edge router has no listeners of role "inter-router"; allowed: "normal", "route-container"'),
        ("edge", connector(role("edge")) + listener(role("edge")),
         'listener[0].role: an edge router has no listeners of role "edge"; allowed: "normal", "route-container"'),
        ("interior", listener(role("inter-network")),
         'listener[0].role: "inter-network" is not available in this version; '
         'allowed: "normal", "inter-router", "edge", "route-container"'),
    ],
)  # fmt: skip
def test_roles_that_a_mode_does_not_allow(site: SiteFile, mode: str, text: str, error: str) -> None:
    (line,) = site.errors(router(mode) + text)
    assert line.partition(": ")[2] == error


def test_a_wrong_mode_is_one_error(site: SiteFile) -> None:
    (line,) = site.errors(router("interor") + listener(role("inter-router")))
    assert line.endswith('did you mean "interior"?')


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        (['id = "a/b"'], '3:6: router.id: "a/b" contains "/", which no router of a network may'),
        (['id = "all"'], '3:6: router.id: "all" means all routers of a network'),
        (["hello_max_age_seconds = 1"],
         "3:25: router.hello_max_age_seconds: 1 is not more than hello_interval_seconds, 1: "
         "neighbours would be lost between two hellos"),
        (["hello_interval_seconds = 5"],
         "1:1: router.hello_max_age_seconds: 3 is not more than hello_interval_seconds, 5: "
         "neighbours would be lost between two hellos"),
        (["ra_interval_seconds = 60"],
         "1:1: router.remote_ls_max_age_seconds: 60 is not more than ra_interval_seconds, 60: "
         "routers would be forgotten between two of their messages"),
        (["ra_interval_seconds = 2"],
         "1:1: router.ra_interval_flux_seconds: 4 is more than ra_interval_seconds, 2"),
        (["hello_interval_seconds = 'x'", "hello_max_age_seconds = 0.5"],
         '3:26: router.hello_interval_seconds: expected a number of seconds, got "x"; allowed: 0.1 to 86400'),
    ],
)  # fmt: skip
def test_a_router_of_a_network(site: SiteFile, keys: list[str], error: str) -> None:
    assert site.errors(router("interior", *keys) + listener(role("inter-router"))) == [f"site.toml:{error}"]


def test_a_router_that_stands_alone_may_have_any_name(site: SiteFile) -> None:
    assert site.load(router("standalone", 'id = "a/b"') + listener()).router.id == "a/b"


# --- what is said of it


@pytest.mark.parametrize("name", ["inter-router", "edge"])
def test_a_network_that_is_open_to_every_router_is_warned_about(certificates: SiteFile, name: str) -> None:
    text = router("interior") + listener(role(name), ANONYMOUS, url="amqp://0.0.0.0:55671")
    assert certificates.load(text).warnings == (
        f"listener[0] amqp://0.0.0.0:55671 has role {name} and takes ANONYMOUS: "
        "any router that reaches it may join the network",
    )
    # Not where only programs of this machine come, and not where they have to authenticate.
    assert certificates.load(text.replace("0.0.0.0", "127.0.0.1")).warnings == ()
    assert certificates.load(text.replace(f'role = "{name}"', role("inter-router")).replace("ANONYMOUS", "EXTERNAL").replace(
        "amqp://", "amqps://") + """
        ssl_profile = "site"
        [[ssl_profile]]
        name = "site"
        ca_cert_file = "ca.pem"
        cert_file = "cert.pem"
        private_key_file = "key.pem"
        """.replace("        ", "")).warnings == ()  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "text", "warning"),
    [
        ("interior", listener(), "mode interior, and no listener or connector has role inter-router or edge: this router stands alone"),
        ("edge", listener(), "mode edge, and no connector has role edge: this router stands alone"),
    ],
)
def test_a_router_of_a_network_that_has_no_way_to_it_is_warned_about(
    site: SiteFile, mode: str, text: str, warning: str
) -> None:
    assert site.load(router(mode) + text).warnings == (warning,)


# --- limits by role


def test_connections_between_routers_have_larger_limits(site: SiteFile) -> None:
    loaded = site.load(
        router("interior")
        + listener()
        + listener(role("inter-router"), url="amqp://127.0.0.1:1")
        + listener(role("edge"), "max_links = 5", "max_session_frames = 7", url="amqp://127.0.0.1:2")
        + connector(role("inter-router"))
    )
    limits = [(entry.max_session_frames, entry.max_links) for entry in (*loaded.listeners, *loaded.connectors)]
    assert limits == [(512, 1000), (2048, 20_000), (7, 5), (2048, 20_000)]


def test_timers_have_the_defaults_of_the_deployed_routers(site: SiteFile) -> None:
    config = site.load(router("interior", "hello_interval_seconds = 0.5") + listener(role("inter-router"))).router
    assert (config.hello_interval_seconds, config.hello_max_age_seconds) == (0.5, 3.0)
    assert (config.ra_interval_seconds, config.ra_interval_flux_seconds, config.remote_ls_max_age_seconds) == (30, 4, 60)
