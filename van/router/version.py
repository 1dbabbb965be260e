"""The line that `--version` prints: what an issue report should begin with."""

from __future__ import annotations

import importlib.util
import platform
import ssl

from van import __version__


def version_line() -> str:
    """van, Python and OpenSSL, and whether the hot modules are Python or compiled."""
    return f"van {__version__} (Python {platform.python_version()}, {_openssl()}, {build()})"


def build() -> str:
    """`pure` or `compiled`, without importing what is asked about."""
    spec = importlib.util.find_spec("van.amqp.session")
    return "compiled" if spec is not None and str(spec.origin).endswith((".so", ".pyd")) else "pure"


def _openssl() -> str:
    # "OpenSSL 3.0.22 8 Oct 2026" -> "OpenSSL 3.0.22"; LibreSSL has the same form.
    return " ".join(ssl.OPENSSL_VERSION.split()[:2])
