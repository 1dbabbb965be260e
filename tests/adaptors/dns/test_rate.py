"""How many questions over UDP are answered."""

from __future__ import annotations

import pytest

from van.adaptors.dns.rate import ANSWER, ANSWERS_PER_SECOND, BURST, DROP, MAX_SOURCES, TRUNCATE, ResponseRate


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_is_not_limited(host: str) -> None:
    rate = ResponseRate()
    assert {rate.judge(host, 0.0) for _ in range(1000)} == {ANSWER}


@pytest.mark.parametrize(
    ("hosts", "other"),
    [
        (["10.0.0.1", "10.0.0.200"], "10.0.1.1"),
        (["2001:db8::1", "2001:db8:0:ff::2"], "2001:db8:1::1"),
        (["::ffff:10.0.0.1", "10.0.0.9"], "::a00:1"),
        (["fe80::1%eth0", "fe80::2"], "10.0.0.1"),
    ],
)
def test_a_source_has_a_burst_and_a_rate_and_is_then_asked_to_come_by_tcp(hosts: list[str], other: str) -> None:
    rate = ResponseRate()
    said = [rate.judge(hosts[number % 2], 0.0) for number in range(int(BURST) + 10)]
    assert said == [ANSWER] * int(BURST) + [DROP, TRUNCATE] * 5
    assert rate.limited == 10
    assert rate.judge(other, 0.0) == ANSWER
    assert [rate.judge(hosts[0], 1.0) for _ in range(int(ANSWERS_PER_SECOND) + 1)][-2:] == [ANSWER, DROP]


def test_what_is_no_address_is_not_answered() -> None:
    assert ResponseRate().judge("localhost", 0.0) == DROP


def test_sources_are_bounded() -> None:
    rate = ResponseRate()
    for _ in range(int(BURST)):
        rate.judge("192.168.0.1", 0.0)
    assert rate.judge("192.168.0.1", 0.0) == DROP
    for number in range(MAX_SOURCES):
        rate.judge(f"10.{number >> 8}.{number & 255}.1", 0.0)
    assert rate.judge("192.168.0.1", 0.0) == ANSWER
