"""What a listener or connector knows about a connection before anybody has spoken the protocol.

It is handed to `make_adaptor`, so that authentication, policy, logs and management can use it.
"""

from __future__ import annotations

from van.transport.url import Url


class ConnectionInfo:
    """Facts about one connection, fixed once its transport stands.

    `peer` and `local` are `host:port`; `transport` is `tcp`, `tls`, `ws` or `wss`; `url` is the listener's or the
    one that was dialled. The `tls_…` fields are empty without TLS, `tls_identity` and `tls_subject` also when the peer
    showed no certificate: what stands there was verified in the handshake. `tls_peer_not_after` is in seconds since
    1970 (infinity without a certificate), `tls_bits` the strength of the cipher. `number` is what the connection is
    called where it was accepted, and `frame_size` the max-frame-size that its peer was told there; 0 for no matter.
    """

    __slots__ = (
        "frame_size",
        "local",
        "number",
        "outgoing",
        "path",
        "peer",
        "subprotocol",
        "tls_bits",
        "tls_cipher",
        "tls_identity",
        "tls_peer_not_after",
        "tls_subject",
        "tls_version",
        "transport",
        "url",
    )

    def __init__(self, *, peer: str, local: str, transport: str, url: Url, outgoing: bool) -> None:
        self.peer = peer
        self.local = local
        self.transport = transport
        self.url = url
        self.outgoing = outgoing
        self.number = 0
        self.frame_size = 0
        self.tls_version = ""
        self.tls_cipher = ""
        self.tls_bits = 0
        self.tls_identity = ""
        self.tls_subject = ""
        self.tls_peer_not_after = float("inf")
        self.subprotocol = ""
        self.path = ""

    @property
    def encrypted(self) -> bool:
        """Whether nobody on the way can read along: PLAIN may be offered."""
        return bool(self.tls_version)

    def __repr__(self) -> str:
        """For logs and debuggers."""
        return f"<ConnectionInfo {'to' if self.outgoing else 'from'} {self.peer} over {self.transport}>"
