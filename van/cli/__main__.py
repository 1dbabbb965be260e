"""`python -m van.cli`: the `van` command where no script is installed."""

from __future__ import annotations

import sys

from van.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
