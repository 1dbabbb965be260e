"""What mypyc is told about a class, for the compiled build; the interpreter takes no notice of it.

`mypy_extensions`, which defines the name, is needed where types are checked and where the wheel is compiled, and by
nobody who runs van: this module stands in for it, and stays interpreted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["mypyc_attr"]

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_attributes):
        """Return a decorator that leaves the class as it is."""
        return lambda cls: cls
