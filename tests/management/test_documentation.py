"""What operators read about entities is what the code declares."""

from __future__ import annotations

from tools.management_page import PAGE, with_tables
from van.management.entities import ENTITY_TYPES


def test_the_page_of_entities_is_what_the_code_declares() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page), "run python tools/management_page.py"


def test_every_attribute_is_declared_once_and_explained() -> None:
    for declared in ENTITY_TYPES:
        names = [attribute.name for attribute in declared.attributes]
        assert len(set(names)) == len(names), declared.type
        assert all(attribute.meaning.endswith(".") for attribute in declared.attributes)
        assert declared.meaning.endswith(".")
