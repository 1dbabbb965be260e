"""The services of HTTP/1.1, by the names under which a site file's schemes `http` and `https` find them."""

from __future__ import annotations

from van.adaptors.http.http1_far import Http1ConnectingService
from van.adaptors.http.http1_near import Http1ListeningService

__all__ = ["Http1ConnectingService", "Http1ListeningService"]
