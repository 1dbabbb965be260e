"""Heads of streams: octet for octet as skrouterd writes them, and what is said of any other message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from van.adaptors.tcp.head import MAX_HEAD, client_head, read_head, read_place, server_head
from van.amqp.errors import DecodeError
from van.amqp.message import AmqpValue, Data, Message, Properties
from van.amqp.types import UInt

# From a recording of skupper-router 3.5, without the router annotations in front.
CLIENT = bytes.fromhex(
    "005373d00000005a000000074040a1087376632e6563686f40a124616d71703a2f5f746f706f2f302f412f74656d702e536d567a474d6d74"
    "4a7730464f4545a107774e4177453a35a1186170706c69636174696f6e2f6f637465742d73747265616d005374d10000000900000002a101"
    "56520100537740"
)
REPLY_TO = "amqp:/_topo/0/A/temp.SmVzGMmtJw0FOEE"
TCP = "application/octet-stream"


def test_a_client_head_is_what_skrouterd_writes() -> None:
    assert client_head("svc.echo", REPLY_TO, "wNAwE:5") == CLIENT


def test_a_server_head_is_the_same_without_what_only_a_client_says() -> None:
    head = Message.decode(server_head(REPLY_TO))
    assert head.properties == Properties(to=REPLY_TO, content_type=TCP)
    assert head.application_properties == {"V": UInt(1)}
    assert head.body == AmqpValue(None)


texts = st.text(min_size=1, max_size=400)
places = st.none() | st.tuples(st.sampled_from(["192.0.2.1", "::1", "host.example"]), st.integers(0, 65535))


@given(texts, texts, texts, st.text(max_size=20), places, places)
def test_what_is_written_is_read(
    to: str, reply_to: str, correlation: str, alpn: str, client: tuple[str, int] | None, local: tuple[str, int] | None
) -> None:
    octets = client_head(to, reply_to, correlation, alpn, client, local)
    found = read_head(octets + b"octets", False)
    assert found is not None
    head, end = found
    assert head.ours
    assert end == len(octets)
    assert (head.to, head.reply_to, head.correlation, head.alpn) == (to, reply_to, correlation, alpn)
    assert read_place(head.client) == client
    assert read_place(head.local) == (local if client else None)
    for cut in range(0, end, 7):
        assert read_head(octets[:cut], False) is None


FOREIGN = {
    "another content type": Message(properties=Properties(to="q", content_type="text/plain"), body=Data(b"x")),
    "none": Message(properties=Properties(to="q"), body=AmqpValue("x")),
    "no version": Message(properties=Properties(to="q", content_type=TCP), body=AmqpValue(None)),
    "a later version": Message(
        properties=Properties(to="q", content_type=TCP), application_properties={"V": UInt(2)}, body=AmqpValue(None)
    ),
    "large": Message(properties=Properties(to="q"), body=Data(bytes(2 * MAX_HEAD))),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_messages_are_not_ours(name: str) -> None:
    octets = FOREIGN[name].encode()
    found = read_head(octets, True)
    assert found is not None
    assert not found[0].ours


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\n",
        CLIENT[:-1] + b"\xa1\x01x",
        Message(message_annotations={"x": bytes(2 * MAX_HEAD)}, body=AmqpValue(None)).encode()[: MAX_HEAD + 1],
        CLIENT[:-4] + CLIENT,
    ],
    ids=["none", "a body", "endless", "twice"],
)
def test_what_is_malformed_is_refused(octets: bytes) -> None:
    with pytest.raises(DecodeError):
        read_head(octets, False)


def test_the_end_before_a_head_has_come() -> None:
    with pytest.raises(DecodeError):
        read_head(CLIENT[:50], True)


@pytest.mark.parametrize("text", ["", "host", "host ", " 80", "host 80000", "host x", "host 1 2", "host \u00b2"])
def test_places_that_are_none(text: str) -> None:
    assert read_place(text) is None
