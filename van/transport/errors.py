"""The one exception of making a connection: which step failed, and why, in a text for operators.

Failures of a connection that already carries an adaptor are not errors here: the driver tells the adaptor.
"""

from __future__ import annotations

import errno
import os
import socket


class TransportError(Exception):
    """A connection that could not be made, accepted or secured.

    `step` is one of the constants below, so that a caller can tell a name that does not resolve from a certificate
    that does not fit; `str()` is the whole story for a person, with host, file or proxy named.
    """

    NAME = "name"  # the host name could not be resolved
    TCP = "tcp"
    PROXY = "proxy"
    TLS = "tls"
    WEBSOCKET = "websocket"
    TIMEOUT = "timeout"
    BIND = "bind"

    def __init__(self, step: str, description: str) -> None:
        super().__init__(description)
        self.step = step


def os_reason(error: OSError) -> str:
    """What the operating system says, in its words, without numbers and addresses: `connection refused`."""
    text = error.strerror or str(error) or type(error).__name__
    code = error.errno
    if code is not None and code in errno.errorcode and not isinstance(error, socket.gaierror):
        # Libraries put the address into `strerror`; whoever reports names it already.
        text = os.strerror(code)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
