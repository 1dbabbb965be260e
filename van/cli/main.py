"""Where the `van` script begins: what needs no parsing is done at once, the rest is for `commands.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["router"]:
        # A router parses its own few arguments, and starts without the libraries of the command line.
        from van.router.__main__ import main as router

        return router(given[1:])
    if given == ["--version"]:
        from van.router.version import version_line

        print(version_line())
        return 0
    from van.cli.commands import run

    return run(given)
