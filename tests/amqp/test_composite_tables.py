"""The field tables say what the specification's XML says, and constructors agree with their tables."""

from __future__ import annotations

import inspect
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.amqp.strategies import TABLES
from van.amqp.composite import COMPOSITE, FIELDS, Composite, Field, registered_composites
from van.amqp.types import Symbol, UByte, UInt

DATA = Path(__file__).parent / "data" / "amqp-1.0"
NAMESPACE = "{http://www.amqp.org/schema/amqp.xsd}"

TYPES = {
    element.get("name", ""): element
    for name in ("types", "transport", "messaging", "transactions", "security")
    for element in ET.parse(DATA / f"{name}.bare.xml").iter(f"{NAMESPACE}type")
}
COMPOSITES = registered_composites()
BY_NAME = {cls.NAME: cls for cls in COMPOSITES}
SPECIFIED = {
    descriptor.get("name", ""): element
    for element in TYPES.values()
    if element.get("class") == "composite"
    for descriptor in element.iter(f"{NAMESPACE}descriptor")
}


CLASSES = {"ubyte": (UByte,), "uint": (UInt,), "symbol": (Symbol,)}


def source_of(name: str) -> str:
    """Follow restricted types to the primitive or composite that they restrict."""
    while TYPES[name].get("class") == "restricted":
        name = TYPES[name].get("source", "")
    return name


def choice(type_name: str, value: str) -> object:
    """Return the value of a default: a number, a truth value, or the value of a named choice."""
    for element in TYPES[type_name].iter(f"{NAMESPACE}choice"):
        if element.get("name") == value:
            value = element.get("value", "")
    if value in ("true", "false"):
        return value == "true"
    return int(value) if value.isdigit() else value


def test_every_composite_of_the_specification_is_declared() -> None:
    assert len(TABLES) == 5
    assert set(BY_NAME) == set(SPECIFIED)


@pytest.mark.parametrize("name", SPECIFIED)
def test_descriptor_and_archetypes_are_the_specified_ones(name: str) -> None:
    element = SPECIFIED[name]
    descriptor = element.find(f"{NAMESPACE}descriptor")
    assert descriptor is not None
    high, low = descriptor.get("code", "").split(":")
    assert int(low, 16) == BY_NAME[name].DESCRIPTOR
    assert int(high, 16) == 0
    provided = element.get("provides", "")
    # `error` provides nothing: fields ask for it by its type.
    expected = provided.replace(" ", "").split(",") if provided else ["error"] if name == "amqp:error:list" else []
    assert list(BY_NAME[name].PROVIDES) == expected


@pytest.mark.parametrize("name", SPECIFIED)
def test_fields_are_the_specified_ones_in_their_order(name: str) -> None:
    cls = BY_NAME[name]
    rows = SPECIFIED[name].findall(f"{NAMESPACE}field")
    assert [field.name for field in cls.FIELDS] == [row.get("name") for row in rows]
    for field, row in zip(cls.FIELDS, rows, strict=True):
        assert field.attribute == field.name.replace("-", "_")
        assert field.mandatory == (row.get("mandatory") == "true")
        assert field.multiple == (row.get("multiple") == "true")
        specified = row.get("type", "")
        default = row.get("default")
        assert field.default == (None if default is None else choice(specified, default))
        check_type(field, specified, row.get("requires", ""))


def check_type(field: Field, specified: str, requires: str) -> None:
    if specified == "*":
        if field.type is COMPOSITE:
            assert field.requires == requires
        else:
            # A restricted archetype is its alternatives; anything may be a global-tx-id.
            assert field.type.name == {"global-tx-id": "*"}.get(requires, requires)
        return
    if specified == "error":
        assert (field.type, field.requires) == (COMPOSITE, "error")
        return
    assert field.requires == ""
    primitive = source_of(specified)
    choices = [choice(specified, element.get("name", "")) for element in TYPES[specified].iter(f"{NAMESPACE}choice")]
    if choices and specified != "role":
        assert list(field.type.choices) == choices
        assert field.type.classes == CLASSES[primitive]
    elif primitive == "map":
        assert field.type.classes == (dict,)
        assert (field.type is FIELDS) == (specified in ("fields", "filter-set", "node-properties"))
    else:
        assert field.type.name == primitive


@pytest.mark.parametrize("cls", COMPOSITES, ids=lambda cls: cls.NAME)
def test_the_constructor_has_a_keyword_for_each_field_with_its_default(cls: type[Composite]) -> None:
    parameters = [] if "__init__" not in vars(cls) else list(inspect.signature(cls).parameters.values())
    assert [parameter.name for parameter in parameters] == [field.attribute for field in cls.FIELDS]
    for parameter, field in zip(parameters, cls.FIELDS, strict=True):
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default == (inspect.Parameter.empty if field.mandatory else field.default)
    # Slots, or in the compiled build members of its own kind, and nothing else: no dictionary.
    stored = [name for name, member in vars(cls).items() if inspect.isdatadescriptor(member)]
    assert sorted(stored) == sorted(field.attribute for field in cls.FIELDS)


def test_rows_and_types_of_a_table_show_their_names() -> None:
    assert repr(BY_NAME["amqp:attach:list"].FIELDS[0]) == "<Field name string>"
    assert repr(COMPOSITE) == "<FieldType composite>"
