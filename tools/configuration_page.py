"""Write the tables of `docs/configuration.md` from the sections as the code declares them.

`python tools/configuration_page.py` rewrites the part between the two markers; `tests/router/test_documentation.py`
fails when that would change it. So a key has one description, in `van/router/sections.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from van.router.config import REPEATED_SECTIONS, SECTIONS, SINGLE_SECTIONS

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
BEGIN = "<!-- keys: written by tools/configuration_page.py -->\n"
END = "<!-- end of keys -->\n"
# Behind keys that can change while the router runs.
LIVE = " ⟳"


def default_of(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return "**required**"
    shown: str = field.metadata["shown"]
    if shown:
        return shown
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{json.dumps(value)}`"


def shown_key(field: attrs.Attribute[Any]) -> str:
    return f"`{field.name}`{LIVE if field.metadata['live'] else ''}"


def table_of(name: str, cls: type) -> str:
    header = f"[{name}]" if name in SINGLE_SECTIONS else f"[[{name}]]"
    assert cls.__doc__ is not None
    about = cls.__doc__.split("\n\n")[0].strip().partition(": ")[2]
    fields = sorted(attrs.fields(cls), key=lambda field: (field.default is not attrs.NOTHING, field.name != "name"))
    rows = [f"| {shown_key(field)} | {default_of(field)} | {field.metadata['meaning']} |" for field in fields]
    head = [f"### `{header}`", "", f"{about[0].upper()}{about[1:]}", "", "| key | default | meaning |", "|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def tables() -> str:
    classes = SINGLE_SECTIONS | REPEATED_SECTIONS
    return "\n".join(table_of(name, classes[name]) for name in SECTIONS)


def with_tables(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
