"""Every key and value of a TOML text is found where it stands, in every spelling that TOML allows."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from van.router.positions import KeyPath, Positions

TEXT = dedent(
    '''\
    # a comment with = and [brackets]
    title = "with \\" and # inside"   # comment

    [a.b]
      "quoted key" = 'x'
    c.d."e.f" = [1, 2,
        # comment ] in an array
        [3, { g = """
    multi ] } line""" , h = 1979-05-27 07:32:00 }],
    ]
    [[list]]
    n = 1
    [list.sub]
    m = \'\'\'it's''\'\'\'
    [[list]]
    n = -inf
    [[list.inner]]
    k = """x"""""
    [[list.inner]]
    k = 0x_f
    [a]
    z = true
    '''
).replace("0x_f", "0xf")

PLACES: list[tuple[KeyPath, tuple[int, int], tuple[int, int]]] = [
    (("title",), (2, 1), (2, 9)),
    (("a",), (4, 1), (4, 1)),
    (("a", "b"), (4, 1), (4, 1)),
    (("a", "b", "quoted key"), (5, 3), (5, 18)),
    (("a", "b", "c"), (6, 1), (6, 1)),
    (("a", "b", "c", "d"), (6, 3), (6, 3)),
    (("a", "b", "c", "d", "e.f"), (6, 5), (6, 13)),
    (("a", "b", "c", "d", "e.f", 1), (6, 17), (6, 17)),
    (("a", "b", "c", "d", "e.f", 2, 0), (8, 6), (8, 6)),
    (("a", "b", "c", "d", "e.f", 2, 1, "g"), (8, 11), (8, 15)),
    (("a", "b", "c", "d", "e.f", 2, 1, "h"), (9, 21), (9, 25)),
    (("list",), (11, 1), (11, 1)),
    (("list", 0), (11, 1), (11, 1)),
    (("list", 0, "n"), (12, 1), (12, 5)),
    (("list", 0, "sub"), (13, 1), (13, 1)),
    (("list", 0, "sub", "m"), (14, 1), (14, 5)),
    (("list", 1), (15, 1), (15, 1)),
    (("list", 1, "n"), (16, 1), (16, 5)),
    (("list", 1, "inner", 0, "k"), (18, 1), (18, 5)),
    (("list", 1, "inner", 1, "k"), (20, 1), (20, 5)),
    (("a", "z"), (22, 1), (22, 5)),
]


def test_the_text_of_these_scenes_is_toml() -> None:
    plain = tomlkit.parse(TEXT).unwrap()
    assert plain["list"][1]["inner"] == [{"k": 'x""'}, {"k": 15}]
    assert plain["list"][0]["sub"]["m"] == "it's''"


@pytest.mark.parametrize(("path", "key", "value"), PLACES)
def test_a_key_and_its_value(path: KeyPath, key: tuple[int, int], value: tuple[int, int]) -> None:
    positions = Positions(TEXT)
    assert (positions.of_key(path), positions.of_value(path)) == (key, value)


def test_what_is_missing_is_reported_at_the_table_around_it() -> None:
    positions = Positions(TEXT)
    assert positions.of_key(("list", 1, "missing")) == (15, 1)
    assert positions.of_value(("a", "b", "c", "missing")) == (6, 1)
    assert positions.of_key(("missing",)) == (1, 1)
    assert Positions("").of_key(("missing",)) == (1, 1)


names = st.text(min_size=1, max_size=5)
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=10) | st.floats(allow_nan=False)
tables = st.dictionaries(
    names,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def leaves(value: Any, path: KeyPath = ()) -> list[tuple[KeyPath, Any]]:
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in leaves(inner, (*path, name))]
    if isinstance(value, list):
        return [leaf for index, inner in enumerate(value) for leaf in leaves(inner, (*path, index))]
    return [(path, value)]


@given(tables)
def test_every_value_that_tomlkit_writes_is_found(table: dict[str, Any]) -> None:
    text = tomlkit.dumps(table)
    positions = Positions(text)
    lines = text.split("\n")
    for path, value in leaves(tomlkit.parse(text).unwrap()):
        line, column = positions.of_value(path)
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        item = tomlkit.item(value).as_string()
        assert rest.startswith(item[:1]), f"{path}: {item} is not where {rest!r} begins"
