"""What the text of an address means, which configured pattern it falls under, and which are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.routing.network import Network, Sender
from van.amqp.delivery_state import RELEASED, Rejected
from van.amqp.errors import ErrorCondition
from van.amqp.message import AmqpValue, Header, Message, Properties
from van.amqp.performatives import Attach
from van.amqp.terminus import Coordinator, Source, Target
from van.routing.address import (
    MAX_ADDRESS_LENGTH,
    AddressConfig,
    Distribution,
    PatternTable,
    address_key,
    strip_address,
    tokens_of,
)
from van.routing.router import MAX_BEFORE_PROPERTIES


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("orders", "Morders"),
        ("orders/new", "Morders/new"),
        ("/orders", "Morders"),
        ("orders/", "Morders"),
        ("orders.", "Morders"),
        ("amqp:/orders", "Morders"),
        ("amqp:orders", "Morders"),
        ("amqp://host:5672/orders", "Morders"),
        ("amqps://host/orders", "Morders"),
        ("//host/orders", "Morders"),
        ("_local/x", "Lx"),
        ("amqp:/_local/x/y", "Lx/y"),
        ("_topo/0/R1/temp.1", "Ltemp.1"),
        ("amqp:/_topo/0/R1/$management", "L$management"),
        ("_topo/0/R2/$management", "RR2"),
        ("_topo/all/all/qdhello", "Tqdhello"),
        ("_topo/0/all/x", "Tx"),
        ("_topo/7/R1/x", "A7"),
        ("_edge/R1/x", "Lx"),
        ("_edge/E9/temp.1", "HE9"),
        ("_$temp.1", "M_$temp.1"),
        ("_other/x", "M_other/x"),
    ],
)
def test_the_key_of_an_address(text: str, key: str) -> None:
    assert address_key(text, "R1") == key


@given(st.text(max_size=30))
def test_stripping_comes_to_an_end(text: str) -> None:
    stripped = strip_address(text)
    assert len(stripped) <= len(text)
    assert address_key(text, "R1")[0] in "MLTRAH"


def best(patterns: list[str], text: str) -> str | None:
    table = PatternTable()
    for pattern in patterns:
        table.add(AddressConfig(pattern, Distribution.CLOSEST))
    found = table.match(text)
    return found.pattern if found is not None else None


@pytest.mark.parametrize(
    ("patterns", "text", "expected"),
    [
        (["a", "*", "#"], "a", "a"),
        (["*", "#"], "a", "*"),
        (["#"], "a", "#"),
        (["#"], "a/b.c", "#"),
        (["a/#"], "a", "a/#"),
        (["a/#"], "a.b.c", "a/#"),
        (["a/#"], "ab", None),
        (["a.*.c", "a.#.c", "a.b.#"], "a.b.c", "a.b.#"),
        (["a.*.c", "a.#.c"], "a/b/c", "a.*.c"),
        (["a.#.c"], "a.c", "a.#.c"),
        (["a.#.c"], "a.x.y.z.c", "a.#.c"),
        (["a.#.c"], "a.x.y.z.d", None),
        (["a.b.d", "a.*.c"], "a.b.c", "a.*.c"),
        (["*.b", "a.#"], "a.b", "a.#"),
        (["*"], "a.b", None),
        (["*.*"], "a", None),
        (["#.x", "#"], "a.b.x", "#.x"),
        (["#.#.x"], "x", "#.#.x"),
        (["a.*"], "a.*", "a.*"),
        (["a.b"], "a.*", None),
        ([], "a", None),
    ],
)
def test_the_best_pattern(patterns: list[str], text: str, expected: str | None) -> None:
    assert best(patterns, text) == expected
    assert best(list(reversed(patterns)), text) == expected


def test_a_pattern_stands_once() -> None:
    table = PatternTable()
    table.add(AddressConfig("a/b", Distribution.CLOSEST))
    with pytest.raises(ValueError, match="already"):
        table.add(AddressConfig("a.b", Distribution.MULTICAST))


def matches(pattern: list[str], tokens: list[str]) -> bool:
    """Whether a pattern matches at all, written as simply as can be."""
    if not pattern:
        return not tokens
    if pattern[0] == "#":
        return any(matches(pattern[1:], tokens[start:]) for start in range(len(tokens) + 1))
    return bool(tokens) and pattern[0] in ("*", tokens[0]) and matches(pattern[1:], tokens[1:])


PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5).map(".".join)
TEXTS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6).map("/".join)


@given(st.lists(PATTERNS, max_size=6, unique=True), TEXTS)
def test_a_pattern_is_found_when_one_matches(patterns: list[str], text: str) -> None:
    found = best(patterns, text)
    matching = [pattern for pattern in patterns if matches(tokens_of(pattern), tokens_of(text))]
    assert (found in matching) if matching else found is None


def test_many_wildcards_cost_little() -> None:
    assert best([".".join(["#"] * 12 + ["x"])], ".".join(["a"] * 300)) is None


def test_patterns_say_how_addresses_are_distributed() -> None:
    network = Network(addresses={"news.#": "multicast"})
    sender = network.client().sender("news/sport")
    receivers = [network.client().receiver("news/sport", credit=1) for _ in range(2)]
    sender.send(b"x")
    network.run()
    assert [receiver.bodies for receiver in receivers] == [[b"x"], [b"x"]]


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("_local/x", "_topo/0/R1/x"),
        ("amqp://somewhere/q", "q"),
        ("q/", "/q"),
        ("_edge/R1/x", "_local/x"),
    ],
)
def test_one_address_by_different_texts(there: str, here: str) -> None:
    network = Network()
    sender = network.client().sender(there)
    receiver = network.client().receiver(here, credit=1)
    sender.send(b"x")
    network.run()
    assert receiver.bodies == [b"x"]


@pytest.mark.parametrize(
    "address", ["_topo/0/R2/x", "_topo/all/all/x", "_topo/9/R1/x", "_edge/E1/x", "_local/", "/", "amqp:"]
)
@pytest.mark.parametrize("role", ["sender", "receiver"])
def test_nodes_that_are_not_here(address: str, role: str) -> None:
    network = Network()
    client = network.client()
    link = client.sender(address) if role == "sender" else client.receiver(address)
    assert link.error is not None
    assert link.error.condition == ErrorCondition.NOT_FOUND
    assert not network.router.addresses


@pytest.mark.parametrize("role", ["sender", "receiver"])
def test_an_address_has_a_longest_length(role: str) -> None:
    network = Network()
    client = network.client()
    link = client.sender("x" * (MAX_ADDRESS_LENGTH + 1)) if role == "sender" else client.receiver("x" * 3000)
    assert link.error is not None
    assert link.error.condition == ErrorCondition.INVALID_FIELD
    assert client.sender("x" * MAX_ADDRESS_LENGTH).error is None


def test_a_receiver_needs_an_address() -> None:
    client = Network().client()
    link = client.receiver(None)
    assert link.error is not None
    assert link.error.condition == ErrorCondition.INVALID_FIELD


def test_no_coordinator() -> None:
    client = Network().client()
    sender = client.sender(None, target=Coordinator())
    assert sender.error is not None
    assert sender.error.condition == ErrorCondition.PRECONDITION_FAILED
    assert client.closed is None
    assert client.sender("q").error is None


def test_a_dynamic_source_is_a_place_for_replies() -> None:
    network = Network()
    asker = network.client()
    replies = asker.receiver(None, dynamic=True, credit=1)
    assert replies.link.remote is not None
    source = replies.link.remote.source
    assert isinstance(source, Source)
    assert source.dynamic
    address = source.address
    assert isinstance(address, str)
    assert address.startswith("amqp:/_topo/0/R1/temp.")
    network.client().sender(address).send(b"reply")
    anonymous = network.client().sender(None)
    network.run()
    replies.credit(1)
    anonymous.send(Message(properties=Properties(to=address), body=AmqpValue("y")).encode())
    network.run()
    assert len(replies.deliveries) == 2


def test_a_dynamic_target_is_a_mobile_address() -> None:
    network = Network()
    sender = network.client().sender(None, dynamic=True)
    assert sender.link.remote is not None
    target = sender.link.remote.target
    assert isinstance(target, Target)
    assert target.dynamic
    assert isinstance(target.address, str)
    receiver = network.client().receiver(target.address, credit=1)
    sender.send(b"x")
    network.run()
    assert receiver.bodies == [b"x"]


def test_dynamic_addresses_differ() -> None:
    client = Network().client()
    attaches = [client.receiver(None, dynamic=True).link.remote for _ in range(3)]
    sources = [attach.source for attach in attaches if attach is not None]
    assert len({source.address for source in sources if isinstance(source, Source)}) == 3


class TestAnonymousTerminus:
    """Each message says where it goes (`to`)."""

    def message(self, to: str | None, *, annotations: int = 0) -> bytes:
        return Message(
            header=Header(priority=4),
            message_annotations={"x": "y" * annotations} if annotations else None,
            properties=Properties(to=to, subject="s"),
            body=AmqpValue("hello"),
        ).encode()

    def test_goes_where_each_message_says(self) -> None:
        network = Network()
        sender = network.client().sender(None)
        assert sender.credit == 250
        receivers = {name: network.client().receiver(name, credit=10) for name in ("a", "b")}
        for name in ("a", "b", "b"):
            sender.send(self.message(name))
        network.run()
        assert [len(receiver.deliveries) for receiver in receivers.values()] == [1, 2]
        network.assert_quiet()

    def test_no_target_is_anonymous_as_well(self) -> None:
        network = Network()
        client = network.client()
        receiver = network.client().receiver("a", credit=1)
        link = client.session.sender("bare")
        sender = Sender(client, link, False)
        link.attach(Attach(name="bare", handle=0, role=False, initial_delivery_count=0))
        network.run()
        sender.send(self.message("a"))
        network.run()
        assert len(receiver.deliveries) == 1

    @pytest.mark.parametrize("settled", [False, True])
    def test_nobody_there(self, settled: bool) -> None:
        network = Network()
        sender = network.client().sender(None)
        for _ in range(500):
            sent = sender.send(self.message("nobody"), settled=settled)
        network.run()
        assert sent.settled
        assert sent.state == (None if settled else RELEASED)
        network.assert_quiet()

    def test_an_address_without_receivers(self) -> None:
        network = Network()
        targeted = network.client().sender("a")
        receiver = network.client().receiver("a", credit=1)
        receiver.detach()
        sent = network.client().sender(None).send(self.message("a"))
        network.run()
        assert sent.state == RELEASED
        assert targeted.credit == 0

    @pytest.mark.parametrize(
        ("payload", "condition"),
        [
            (b"\x00\x53\x77\xa1\x01x", ErrorCondition.PRECONDITION_FAILED),
            (b"", ErrorCondition.PRECONDITION_FAILED),
            (b"garbage", ErrorCondition.DECODE_ERROR),
            (b"\x00\x53\x73\xc0\xff", ErrorCondition.DECODE_ERROR),
        ],
    )
    @pytest.mark.parametrize("settled", [False, True])
    def test_messages_that_do_not_say(self, payload: bytes, condition: str, settled: bool) -> None:
        network = Network()
        sender = network.client().sender(None)
        sent = sender.send(payload, settled=settled)
        network.run()
        assert sent.settled
        if not settled:
            assert isinstance(sent.state, Rejected)
            assert sent.state.error is not None
            assert sent.state.error.condition == condition
        network.assert_quiet()

    def test_properties_behind_much_else(self) -> None:
        network = Network()
        sender = network.client().sender(None)
        receiver = network.client().receiver("a", credit=1)
        body = self.message("a", annotations=400_000)
        sent = sender.begin(body[:390_000])
        network.run()
        assert not receiver.deliveries
        sent.more(body[390_000:])
        network.run()
        assert len(receiver.deliveries) == 1
        sent.end()
        network.run()
        assert receiver.bodies == [body]
        network.assert_quiet()

    def test_properties_that_do_not_come(self) -> None:
        network = Network()
        sender = network.client().sender(None)
        body = self.message("a", annotations=2 * MAX_BEFORE_PROPERTIES)
        sent = sender.begin(body[: MAX_BEFORE_PROPERTIES + 20_000])
        network.run()
        assert isinstance(sent.state, Rejected)
        sent.end(body[MAX_BEFORE_PROPERTIES + 20_000 :])
        network.run()
        network.assert_quiet()
