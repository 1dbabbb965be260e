"""URLs of peers and listeners: what is accepted, what the defaults are, and errors that show no password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from van.transport.url import Url, UrlError, parse_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amqp://host", Url("amqp", "host", 5672)),
        ("amqps://host", Url("amqps", "host", 5671)),
        ("ws://host", Url("ws", "host", 80)),
        ("wss://host", Url("wss", "host", 443)),
        ("AMQP://Host:1", Url("amqp", "Host", 1)),
        ("amqp://127.0.0.1:0/", Url("amqp", "127.0.0.1", 0, "/")),
        ("amqp://[::1]:5673/a/b", Url("amqp", "::1", 5673, "/a/b")),
        ("amqp://[fe80::1%25eth0]", Url("amqp", "fe80::1%eth0", 5672)),
        ("amqp://guest:s%40cret@h/q", Url("amqp", "h", 5672, "/q", "guest", "s@cret")),
        ("amqp://user%40domain@h", Url("amqp", "h", 5672, "", "user@domain")),
        ("amqp://me:@h", Url("amqp", "h", 5672, "", "me", "")),
        ("amqp://bücher.example", Url("amqp", "bücher.example", 5672)),
        (
            "wss://hub.example.com/$servicebus/websocket?x=1",
            Url("wss", "hub.example.com", 443, "/$servicebus/websocket?x=1"),
        ),
    ],
)
def test_accepted(text: str, expected: Url) -> None:
    assert parse_url(text) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("localhost:5672", 'did you mean "amqp://localhost:5672"'),
        ("localhost", 'did you mean "amqp://localhost"'),
        ("http://h", 'did you mean "ws"'),
        ("https://h", 'did you mean "wss"'),
        ("ampq://h", 'did you mean "amqp"'),
        ("gopher://h", "none of amqp, amqps, ws, wss"),
        ("amqp://", "names no host"),
        ("amqp:///queue", "names no host"),
        ("amqp://:5672", "names no host"),
        ("amqp://h:port", 'port "port"'),
        ("amqp://h:65536", 'port "65536"'),
        ("amqp://h:", 'port ""'),
        ("amqp://h:-1", 'port "-1"'),
        ("amqp://h:٣", 'port "٣"'),
        ("amqp://::1", "IPv6 address stands in brackets"),
        ("amqp://[::1", 'a "[" without "]"'),
        ("amqp://[::g]", "not an IPv6 address"),
        ("amqp://[::1]x", "where a colon and the port belong"),
        ("amqp://a b", "blank or a control character"),
        ("amqp://h\n", "blank or a control character"),
        ("amqp://@h", "empty user name"),
        ("amqp://h?x=1", '"?" in its host name'),
        ("amqp://" + "a" * 254, "longer than 253"),
        ("", "not of the form"),
    ],
)
def test_refused_with_the_url_and_the_reason(text: str, what: str) -> None:
    with pytest.raises(UrlError) as caught:
        parse_url(text)
    assert what in str(caught.value)
    assert text[:100] in str(caught.value)


def test_a_listener_may_leave_the_host_out() -> None:
    assert parse_url("amqp://:5672", any_interface=True) == Url("amqp", "", 5672)


def test_the_password_is_shown_nowhere() -> None:
    url = parse_url("amqps://me:hidden@host/q")
    assert "hidden" not in str(url)
    assert "hidden" not in repr(url)
    with pytest.raises(UrlError) as caught:
        parse_url("amqps://me:hidden@host:x")
    assert "hidden" not in str(caught.value)


def test_the_address_is_what_stands_behind_the_host() -> None:
    assert parse_url("amqp://h/a%20b/c").address == "a b/c"
    assert parse_url("amqp://h/news.#").address == "news.#"
    assert parse_url("amqp://h").address == ""
    assert parse_url("ws://h/some/path").address == ""


def test_the_host_header_leaves_out_the_usual_port() -> None:
    assert parse_url("ws://h").host_header == "h"
    assert parse_url("ws://[::1]:8080").host_header == "[::1]:8080"
    assert parse_url("wss://h:80").host_header == "h:80"


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_a_url_error(text: str) -> None:
    for candidate in (text, "amqp://" + text):
        try:
            url = parse_url(candidate)
        except UrlError:
            continue
        assert url.host


@given(
    st.sampled_from(["amqp", "amqps", "ws", "wss"]),
    st.sampled_from(["h", "a.example", "::1", "127.0.0.1"]),
    st.integers(0, 65535),
    st.none() | st.text(min_size=1),
    st.sampled_from(["", "/", "/a", "/a%20b#c"]),
)
def test_what_is_printed_is_parsed_again(scheme: str, host: str, port: int, user: str | None, path: str) -> None:
    try:
        text = str(Url(scheme, host, port, path, user))
    except UnicodeEncodeError:  # lone surrogates cannot be printed
        return
    assert parse_url(text) == Url(scheme, host, port, path, user)
