"""Write the tables of `docs/management.md` from the entity types as the code declares them.

`python tools/management_page.py` rewrites the part between the two markers; `tests/management/test_documentation.py`
fails when that would change it. So an attribute has one description, in `van/management/entities.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from van.management.entities import ENTITY_TYPES
from van.management.schema import Attribute, EntityType, unknown

PAGE = Path(__file__).parent.parent / "docs" / "management.md"
BEGIN = "<!-- entities: written by tools/management_page.py -->\n"
END = "<!-- end of entities -->\n"
# Attributes that every entity has, and that mean the same in all of them.
COMMON = {"name", "identity", "type"}


def row_of(attribute: Attribute[Any]) -> str:
    return f"| `{attribute.name}` | {attribute.kind.value} | {attribute.meaning} |"


def table_of(declared: EntityType[Any]) -> str:
    told = [attribute for attribute in declared.attributes if attribute.read is not unknown]
    null = [f"`{attribute.name}`" for attribute in declared.attributes if attribute.read is unknown]
    own = [attribute for attribute in told if attribute.name not in COMMON]
    identity = [attribute for attribute in told if attribute.name == "identity"]
    lines = [f"### `{declared.type}`", "", declared.meaning, ""]
    lines += ["| attribute | type | meaning |", "|---|---|---|", *map(row_of, [*identity, *own])]
    if null:
        lines += ["", f"Always null: {', '.join(null)}."]
    return "\n".join(lines) + "\n"


def tables() -> str:
    return "\n".join(table_of(declared) for declared in ENTITY_TYPES)


def with_tables(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
