"""What a site file says of brokers: auto-links that lead somewhere, waypoints, and who is warned."""

from __future__ import annotations

import attrs
import pytest

from tests.router.site_file import SiteFile
from tests.router.test_site_file_networks import ANONYMOUS, role, router
from tests.router.test_site_file_rules import connector, listener

BROKER = connector(role("route-container"), 'name = "broker"')


def auto_link(*keys: str) -> str:
    return "\n".join(["[[auto_link]]", *keys, ""])


def out(*keys: str) -> str:
    return auto_link('direction = "out"', 'address = "orders"', *keys)


def back(*keys: str) -> str:
    return auto_link('direction = "in"', 'address = "orders"', *keys)


ON_BROKER = 'connection = "broker"'


@pytest.mark.parametrize("mode", ["standalone", "interior", "edge"])
def test_every_router_may_have_brokers(site: SiteFile, mode: str) -> None:
    others = {"standalone": "", "interior": listener(role("inter-router")), "edge": connector(role("edge"))}
    text = router(mode) + others[mode] + BROKER + out(ON_BROKER)
    text += listener(role("route-container"), url="amqp://127.0.0.1:2") + back('container_id = "other"')
    assert len(site.load(text + '[[address]]\nprefix = "orders"\nwaypoint = true\n').auto_links) == 2


def test_what_an_auto_link_says(site: SiteFile) -> None:
    text = BROKER + out(ON_BROKER, 'external_address = "/queue/orders"', 'name = "mine"') + back(ON_BROKER)
    text += back(ON_BROKER) + auto_link('direction = "in"', 'container_id = "c"', 'external_address = "outbox"')
    loaded = site.load(text)
    assert attrs.asdict(loaded.auto_links[0]) == {
        "name": "mine",
        "direction": "out",
        "address": "orders",
        "external_address": "/queue/orders",
        "connection": "broker",
        "container_id": "",
    }
    assert [entry.name for entry in loaded.auto_links[1:]] == [
        "in/broker/orders",
        "in/broker/orders/2",
        "in/c/outbox",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (auto_link('address = "a"', ON_BROKER), "1:1: auto_link[0].direction: missing"),
        (auto_link('direction = "inn"', 'address = "a"', ON_BROKER),
         '2:13: auto_link[0].direction: unknown value "inn"; allowed: "in", "out"; did you mean "in"?'),
        (out(), '1:1: auto_link[0]: one of "connection" and "container_id" is missing'),
        (out(ON_BROKER, 'container_id = "c"'),
         '5:1: auto_link[0].container_id: "connection" and "container_id" exclude one another'),
        (auto_link('direction = "out"', ON_BROKER), '1:1: auto_link[0].address: missing; direction "out" needs it'),
        (auto_link('direction = "in"', ON_BROKER),
         '1:1: auto_link[0]: one of "address" and "external_address" is missing'),
        (out('connection = "brocker"'),
         '4:14: auto_link[0].connection: no listener and no connector has the name "brocker"; allowed: "broker"; '
         'did you mean "broker"?'),
        (out('connection = "listener/127.0.0.1:5672"'),
         '4:14: auto_link[0].connection: "listener/127.0.0.1:5672" has role "normal": a broker\'s is "route-container"'),
        (out(ON_BROKER, "phase = 1"), "5:1: auto_link[0].phase: unknown key; use waypoint in [[address]]"),
        (out(ON_BROKER, "fallback = true"), "5:1: auto_link[0].fallback: not available in this version"),
        (out(ON_BROKER, 'name = "a"') + back(ON_BROKER, 'name = "a"'),
         '10:8: auto_link[1].name: "a" is the name of auto_link[0] already'),
        ('[[address]]\nprefix = "a"\negress_phase = 1\n',
         "3:1: address[0].egress_phase: unknown key; use waypoint in [[address]]"),
    ],
)  # fmt: skip
def test_an_auto_link_that_leads_nowhere(site: SiteFile, text: str, line: str) -> None:
    assert site.errors(text + BROKER + listener()) == [f"site.toml:{line}"]


def test_the_name_of_a_connection_that_has_none_written(site: SiteFile) -> None:
    text = connector(role("route-container")) + out('connection = "connector/hub:5672"')
    assert site.load(text).auto_links[0].connection == "connector/hub:5672"


def test_a_connection_with_a_mistake_is_one_error(site: SiteFile) -> None:
    text = connector(role("route-container"), 'name = "broker"', "url = 5").replace('url = "amqp://hub:5672"\n', "")
    assert len(site.errors(text + out(ON_BROKER))) == 1


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (listener() + out('container_id = "c"'),
         "[[auto_link]], and no listener or connector has role route-container: nothing goes to a broker"),
        (BROKER + out(ON_BROKER) + back(ON_BROKER),
         'auto_link[1] brings messages to "orders", from where auto_link[0] takes them to a broker again: '
         "one [[address]] with waypoint = true keeps the two apart"),
        (listener(role("route-container"), ANONYMOUS, url="amqp://0.0.0.0:5672"),
         "listener[0] amqp://0.0.0.0:5672 has role route-container and takes ANONYMOUS: "
         "any program that reaches it may stand in for a broker"),
    ],
)  # fmt: skip
def test_what_may_not_be_meant(site: SiteFile, text: str, warning: str) -> None:
    assert site.load(text).warnings == (warning,)


@pytest.mark.parametrize(
    "address",
    ['prefix = "orders"\nwaypoint = true', 'pattern = "*"\nwaypoint = true'],
)
def test_a_waypoint_goes_in_no_circles(site: SiteFile, address: str) -> None:
    assert site.load(BROKER + out(ON_BROKER) + back(ON_BROKER) + f"[[address]]\n{address}\n").warnings == ()
