"""Hypothesis strategies for packets, derived from the tables of properties and reason codes."""

from __future__ import annotations

from hypothesis import strategies as st

from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)

LEVELS = (MQTT_3_1_1, MQTT_5)

texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
binaries = st.binary(max_size=40)
identifiers = st.sampled_from((1, 2, 255, 256, 0xFFFF)) | st.integers(1, 0xFFFF)
variables = st.sampled_from((0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, p.MAX_VARIABLE))

VALUES: dict[p.FieldType, st.SearchStrategy[object]] = {
    p.BYTE: st.integers(0, 255),
    p.TWO_BYTE_INTEGER: st.integers(0, 0xFFFF),
    p.FOUR_BYTE_INTEGER: st.integers(0, 0xFFFFFFFF),
    p.VARIABLE_BYTE_INTEGER: variables | st.integers(0, p.MAX_VARIABLE),
    p.UTF8_STRING: texts,
    p.BINARY_DATA: binaries,
    p.UTF8_STRING_PAIR: st.tuples(texts, texts),
}


def value_of(row: p.Property) -> st.SearchStrategy[object]:
    values = st.integers(0, 1) if row.flag else VALUES[row.type]
    return values.filter(lambda value: value != 0) if row.positive else values


def properties(packet: int, level: int = MQTT_5) -> st.SearchStrategy[p.Properties]:
    """Any properties that a packet may have."""
    if level != MQTT_5:
        return st.just({})
    optional: dict[int, st.SearchStrategy[object]] = {}
    for row in p.TABLE:
        if packet not in row.packets:
            continue
        value = value_of(row)
        if row.multiple:
            value = st.lists(value, min_size=1, max_size=3 if packet in row.several else 1)
        optional[row.identifier] = value
    return st.fixed_dictionaries({}, optional=optional)


def wills(level: int) -> st.SearchStrategy[Will]:
    return st.builds(
        Will, texts, binaries, qos=st.integers(0, 2), retain=st.booleans(), properties=properties(p.WILL, level)
    )


@st.composite
def connects(draw: st.DrawFn, level: int) -> Connect:
    user_name = draw(st.none() | texts)
    may_have_password = level == MQTT_5 or user_name is not None
    return Connect(
        level=level,
        client_id=draw(texts),
        clean_start=draw(st.booleans()),
        keep_alive=draw(st.integers(0, 0xFFFF)),
        will=draw(st.none() | wills(level)),
        user_name=user_name,
        password=draw(st.none() | binaries) if may_have_password else None,
        properties=draw(properties(p.CONNECT, level)),
    )


def connacks(level: int) -> st.SearchStrategy[Connack]:
    codes = st.sampled_from(sorted(Connack.REASONS if level == MQTT_5 else Connack.OLD_REASONS))
    refusals = st.builds(Connack, codes, properties=properties(p.CONNACK, level))
    return refusals | st.builds(
        Connack, st.just(0), session_present=st.booleans(), properties=properties(p.CONNACK, level)
    )


@st.composite
def publishes(draw: st.DrawFn, level: int) -> Publish:
    qos = draw(st.integers(0, 2))
    return Publish(
        draw(texts),
        draw(binaries),
        qos=qos,
        retain=draw(st.booleans()),
        dup=qos > 0 and draw(st.booleans()),
        packet_id=draw(identifiers) if qos else 0,
        properties=draw(properties(p.PUBLISH, level)),
    )


def acknowledgements(kind: type[Acknowledgement], level: int) -> st.SearchStrategy[Acknowledgement]:
    reasons = st.sampled_from(sorted(kind.REASONS)) if level == MQTT_5 else st.just(0)
    return st.builds(kind, identifiers, reasons, properties=properties(kind.TYPE, level))


def subscriptions(level: int) -> st.SearchStrategy[Subscription]:
    new = level == MQTT_5
    return st.builds(
        Subscription,
        texts,
        st.integers(0, 2),
        no_local=st.booleans() if new else st.just(False),
        retain_as_published=st.booleans() if new else st.just(False),
        retain_handling=st.integers(0, 2) if new else st.just(0),
    )


def codes(kind: type[Packet], level: int) -> st.SearchStrategy[list[int]]:
    allowed = kind.REASONS if level == MQTT_5 else kind.OLD_REASONS
    return st.lists(st.sampled_from(sorted(allowed)), min_size=1, max_size=5) if allowed else st.just([])


def farewells(kind: type[Disconnect | Auth], level: int) -> st.SearchStrategy[Packet]:
    reasons = st.sampled_from(sorted(kind.REASONS)) if level == MQTT_5 else st.just(0)
    return st.builds(kind, reasons, properties=properties(kind.TYPE, level))


def packets(level: int) -> st.SearchStrategy[Packet]:
    """Any packet of a protocol level."""
    kinds: list[st.SearchStrategy[Packet]] = [
        connects(level),
        connacks(level),
        publishes(level),
        st.builds(
            Subscribe,
            identifiers,
            st.lists(subscriptions(level), min_size=1, max_size=4),
            properties=properties(p.SUBSCRIBE, level),
        ),
        st.builds(Suback, identifiers, codes(Suback, level), properties=properties(p.SUBACK, level)),
        st.builds(
            Unsubscribe,
            identifiers,
            st.lists(texts, min_size=1, max_size=4),
            properties=properties(p.UNSUBSCRIBE, level),
        ),
        st.builds(Unsuback, identifiers, codes(Unsuback, level), properties=properties(p.UNSUBACK, level)),
        st.builds(Pingreq),
        st.builds(Pingresp),
        farewells(Disconnect, level),
    ]
    kinds += [acknowledgements(kind, level) for kind in (Puback, Pubrec, Pubrel, Pubcomp)]
    if level == MQTT_5:
        kinds.append(farewells(Auth, level))
    return st.one_of(kinds)
