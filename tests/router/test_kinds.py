"""The table of schemes is true: its classes are there, and take what they are called with."""

from __future__ import annotations

import inspect

import attrs
import pytest

from van.router.kinds import KINDS, schemes
from van.router.sections import ServiceConfig
from van.router.version import build

ENDS = [(scheme, listening) for listening in (True, False) for scheme in schemes(listening)]


@pytest.mark.skipif(build() == "compiled", reason="compiled classes do not tell their parameters")
@pytest.mark.parametrize(("scheme", "listening"), ENDS)
def test_the_class_of_a_scheme_takes_what_the_site_file_may_say(scheme: str, listening: bool) -> None:
    kind = KINDS[scheme]
    taken = inspect.signature(kind.make(listening)).parameters
    if not kind.shared:
        assert list(taken)[:4] == ["router", "name", "address", "log"]
    assert set(kind.keywords(listening).values()) <= set(taken)
    assert all(taken[keyword].default is not inspect.Parameter.empty for keyword in kind.keywords(listening).values())


@pytest.mark.parametrize(("scheme", "listening"), ENDS)
def test_keys_of_a_scheme_are_keys_of_the_section(scheme: str, listening: bool) -> None:
    assert KINDS[scheme].allowed(listening) <= {field.name for field in attrs.fields(ServiceConfig)}


def test_every_key_means_something_for_some_scheme() -> None:
    used = {key for scheme, listening in ENDS for key in KINDS[scheme].allowed(listening)}
    assert {field.name for field in attrs.fields(ServiceConfig)} - used == {"listen", "connect", "address", "name"}
