"""An idle router: how soon it is ready, its resident memory, and what each idle connection with one link adds.

`python benchmarks/idle.py [--runs 3] [--connections 1000] [--json]`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from measure import Figures, RouterProcess, medians, resident_kib, table
from wire import Peer, dial

# A router takes silent peers for dead after 16 s.
HEARTBEAT_SECONDS = 4.0
EMPTY_FRAME = b"\x00\x00\x00\x08\x02\x00\x00\x00"
# Descriptors of this process beside the connections.
SPARE_DESCRIPTORS = 100


def allow_descriptors(count: int) -> None:
    """Raise the soft limit of open files, where there is one."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_DESCRIPTORS
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(wanted, hard), hard))


def measure(connections: int) -> Figures:
    """Start a router, look at it, open the connections, look again."""
    allow_descriptors(connections)
    with RouterProcess() as router:
        time.sleep(0.2)
        empty = resident_kib(router.pid)
        sockets = []
        try:
            beat = begin = time.perf_counter()
            for number in range(connections):
                peer = Peer(f"idle {number}")
                peer.receiver(f"idle/{number}")
                sockets.append(dial(peer, router.port))
                if time.perf_counter() - beat > HEARTBEAT_SECONDS:
                    beat = time.perf_counter()
                    for connected in sockets:
                        connected.sendall(EMPTY_FRAME)
            seconds = time.perf_counter() - begin
            time.sleep(0.5)
            full = resident_kib(router.pid)
        finally:
            for connected in sockets:
                connected.close()
    each = (full - empty) / connections if full is not None and empty is not None else None
    return {
        "start s": router.start_seconds,
        "idle MB": empty * 1024 / 1e6 if empty is not None else None,
        "KB per connection": each * 1024 / 1e3 if each is not None else None,
        "connections/s": connections / seconds,
    }


def run(runs: int = 3, connections: int = 1000) -> dict[str, Figures]:
    """The medians of some runs, each with a router of its own."""
    return {f"{connections} connections": medians([measure(connections) for _ in range(runs)])}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="medians of so many")
    parser.add_argument("--connections", type=int, default=1000, help="idle connections")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    arguments = parser.parse_args()
    rows = run(arguments.runs, arguments.connections)
    print(json.dumps(rows) if arguments.json else table("idle router", rows))


if __name__ == "__main__":
    main()
