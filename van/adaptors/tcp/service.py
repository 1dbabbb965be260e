"""The two classes of services of TCP, for whoever assembles a site."""

from van.adaptors.tcp.connecting import TcpConnectingService
from van.adaptors.tcp.listening import TcpListeningService

__all__ = ["TcpConnectingService", "TcpListeningService"]
