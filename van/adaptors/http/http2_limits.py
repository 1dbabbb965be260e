"""What a peer of an HTTP/2 connection may do how often, and how much of everything it may have (RFC 9113, 10.5).

Whoever goes beyond is told ENHANCE_YOUR_CALM, and loses its connection; nobody else notices.
"""

from __future__ import annotations

from typing import Final

# Requests under way at a time on one connection of a client; more are refused, and may be tried again. RFC 9113, 6.5.2
# wants at least 100.
MAX_STREAMS: Final = 128
# The same on a connection to a server, which says itself how many it takes: many say 100, gRPC's often any number, and
# calls may last for hours.
MAX_STREAMS_TO_SERVER: Final = 1000
# What a peer may send on one stream before it hears that something was passed on. More than a default window, so that
# it holds before the peer has read our settings; 64 KiB twice, so that a reader here need not wait for a round trip.
STREAM_WINDOW: Final = 131072
# What it may send on a connection is as much as on all its streams together: those that stand still block no others.
# The largest frame that a peer may send. A frame costs the same whatever its size; half a window keeps it flowing.
MAX_FRAME_SIZE: Final = 65536
# The largest frame that we send, even where a peer takes larger ones: streams take turns frame by frame.
SEND_FRAME_SIZE: Final = 65536
# All fields of a head, with 32 octets for each (RFC 9113, 6.5.2). Others: nginx 32 KiB, Envoy 60 KiB, Go 1 MiB.
MAX_HEADER_LIST: Final = 65536
# The fields of one head before they are decompressed, and the frames they may come in. The smallest frames that anybody
# sends have 16 KiB.
MAX_HEADER_BLOCK: Final = 65536
MAX_CONTINUATIONS: Final = 16
# The table by which we compress what we send, in octets; the default of RFC 9113, also where a peer offers more, for it
# is memory of ours and searched in a line.
ENCODER_TABLE: Final = 4096
# Settings in one frame: there are ten of them.
MAX_SETTINGS: Final = 32
# Answers to PING, SETTINGS and the like that wait for a peer that reads nothing, in octets: 4000 of them.
MAX_PENDING: Final = 65536
# Streams that have ended of which is remembered how, so that what comes late is told from what is wrong.
CLOSED_STREAMS: Final = 4096

# Each: how many at once, and how many a second after that.
# Streams that the client has given up, or that we had to because of it (CVE-2023-44487, CVE-2025-8671): as nghttp2.
RESETS: Final = (1000, 33.0)
# SETTINGS and PING, each of which wants an answer (CVE-2019-9512, CVE-2019-9515). A client of gRPC that measures its
# bandwidth sends a PING for each round trip.
SETTINGS: Final = (100, 1.0)
PINGS: Final = (1000, 200.0)
# Frames of data, or of fields, without any (CVE-2019-9518).
EMPTY_FRAMES: Final = (200, 10.0)
# PRIORITY, WINDOW_UPDATE and frames nobody knows, beyond those that our own data gives reason for...
IDLE_FRAMES: Final = (4000, 1000.0)
# ...which is so many for a frame of data: a peer may open two windows, by several steps.
UPDATES_PER_DATA: Final = 8.0

# A peer that has not said its settings for so long is no peer, in seconds: a port scan, or another protocol.
OPEN_TIMEOUT: Final = 30.0
# Without a sign of life for so long while requests are under way the peer is asked for one, in seconds...
KEEPALIVE: Final = 60.0
# ...and given up when it says nothing for so long. A slow one has much to read before it sees what it is asked.
PING_TIMEOUT: Final = 60.0
# That a peer's socket takes so many octets at once is a sign of life, too: less goes into the buffers of a dead one.
PROGRESS: Final = 16384
# A connection without any request for so long is ended.
IDLE_TIMEOUT: Final = 3600.0
# From the announcement of the end on, so long are requests still taken whose client has not heard it yet.
GRACE: Final = 1.0


class Allowance:
    """How often something may be done: `burst` times at once, and `rate` times a second after that."""

    __slots__ = ("at", "burst", "left", "rate")

    def __init__(self, limit: tuple[int, float], now: float) -> None:
        self.burst = float(limit[0])
        self.rate = limit[1]
        self.left = self.burst
        self.at = now

    def spend(self, now: float) -> bool:
        """Do it once. Returns whether that was allowed."""
        if now > self.at:
            self.left = min(self.burst, self.left + (now - self.at) * self.rate)
            self.at = now
        self.left -= 1.0
        return self.left >= 0.0

    def earn(self, times: float) -> None:
        """There is reason for some more."""
        self.left = min(self.burst, self.left + times)
