"""URLs of services: what they say, what is wrong with those that say nothing, and that any text is one or the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from van.transport.service_url import DEFAULT_PORTS, ServiceUrl, parse_service_url
from van.transport.url import UrlError

SCHEMES = ["tcp", "tls", "http", "https", "http2", "udp", "mqtt", "mqtts"]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("tcp://127.0.0.1:5432", ServiceUrl("tcp", "127.0.0.1", 5432)),
        ("TCP://db:5432/", ServiceUrl("tcp", "db", 5432)),
        ("tls://[2001:db8::7]:443", ServiceUrl("tls", "2001:db8::7", 443)),
        ("udp://:514", ServiceUrl("udp", "", 514)),
        *((f"{scheme}://h", ServiceUrl(scheme, "h", port)) for scheme, port in DEFAULT_PORTS.items()),
    ],
)
def test_a_url_of_a_service(text: str, url: ServiceUrl) -> None:
    assert parse_service_url(text, SCHEMES, any_interface=True) == url


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("tcp:db:5432", "is not of the form SCHEME://HOST:PORT with tcp, tls"),
        ("", "is not of the form"),
        ("grpc://db:1", 'has the scheme "grpc", which is none of .*; did you mean "http2"'),
        ("ssl://db:1", 'did you mean "tls"'),
        ("htp://db:1", 'did you mean "http"'),
        ("amqp://db:1", 'has the scheme "amqp", which is none of'),
        ("tcp://:1", "names no host"),
        ("tcp://db", "names no port, and tcp has none of its own"),
        ("tcp://db:65536", 'has the port "65536"'),
        ("tcp://db:1/x?y", 'has "/x\\?y" behind its port'),
        ("tcp://user@db:1", 'has "@" in its host name'),
        ("tcp://[::1:1", 'has a "\\[" without "\\]"'),
        ("tcp://" + "x" * 1000, "…"),
    ],
)
def test_what_is_wrong_with_it(text: str, what: str) -> None:
    with pytest.raises(UrlError, match=what):
        parse_service_url(text, SCHEMES)


@given(
    st.text(max_size=40)
    | st.builds("{}://{}:{}{}".format, st.sampled_from([*SCHEMES, "x"]), st.text(max_size=9), st.integers(), st.text())
)
def test_any_text_is_a_url_or_is_refused_and_a_url_is_the_same_again(text: str) -> None:
    try:
        url = parse_service_url(text, SCHEMES, any_interface=True)
    except UrlError:
        return
    assert parse_service_url(str(url), SCHEMES, any_interface=True) == url
