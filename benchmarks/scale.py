"""Many of everything at one router: what each costs in memory, whether it comes back, and what a storm does to others.

`python benchmarks/scale.py [ROW …] [--scale 1] [--json]`. Each row has a router process of its own. Memory is resident,
of the router alone; *left* is what it still has above an empty one some seconds after all have gone. In a storm clients
connect at a rate, attach a link each and stay, while messages go from a sender to a receiver at 1000/s; *pause* is the
longest time for which that receiver heard nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import trustme
from generators import Generator, Load
from measure import Figures, RouterProcess, allow_descriptors, cpu_seconds, environment, resident_kib, table
from routers import MULTICAST, Layout, Van, free_port
from streams import Stream, connect
from wire import Batches, Counter, Peer, dial, message, shake_hands

SITE = f"""
[router]
id = "scale"
mode = "interior"

[[listener]]
url = "amqp://127.0.0.1:0"

[[address]]
prefix = "{MULTICAST}"
distribution = "multicast"
"""
TLS_SITE = """
[[listener]]
url = "amqps://127.0.0.1:{port}"
ssl_profile = "site"

[[ssl_profile]]
name = "site"
cert_file = '{certificate}'
"""
LINKS = 1000
ROUNDS = 3
# Until the figures of a process stand still, in seconds.
QUIET = 1.0
# Addresses are known when memory has not grown for so long, in seconds.
SETTLING = 2.0
# A router gives memory back when no connection has ended for twenty seconds.
GONE_SECONDS = 30.0
STORM_PROCESSES = 2
MESSAGES_PER_SECOND = 1000.0
BEAT_SECONDS = 4.0
EMPTY_FRAME = b"\x00\x00\x00\x08\x02\x00\x00\x00"
MANY_ADDRESSES = Path(__file__).resolve().parent / "many_addresses.py"


class Patience:
    """How long rows wait and storms last, in seconds."""

    gone = GONE_SECONDS
    storm = 6.0


# ------------------------------------------------------------------------------------------------------- the router


@contextmanager
def serving(transport: str = "tcp", key: str = "EC") -> Iterator[tuple[RouterProcess, int]]:
    """A router, and the port where the clients of a row connect."""
    if transport == "tcp":
        with RouterProcess(SITE) as router:
            yield router, router.port
        return
    with tempfile.TemporaryDirectory() as folder:
        kind = trustme.KeyType.RSA if key == "RSA" else trustme.KeyType.ECDSA
        certificate = Path(folder) / "server.pem"
        trustme.CA().issue_cert("localhost", key_type=kind).private_key_and_cert_chain_pem.write_to_path(certificate)
        port = free_port()
        with RouterProcess(SITE + TLS_SITE.format(port=port, certificate=certificate)) as router:
            yield router, port


def memory(router: RouterProcess) -> float:
    """Resident octets."""
    time.sleep(QUIET)
    return (resident_kib(router.pid) or 0) * 1024.0


def spent(router: RouterProcess) -> float:
    """CPU seconds."""
    return cpu_seconds(router.pid) or 0.0


# ------------------------------------------------------------------------------------------------------------- rows


def held(count: int, *, connections: bool, links: int = 1, transport: str = "tcp") -> Figures:
    """`count` connections (or links, `links` on each connection), each link to an address of its own; then none."""
    with serving(transport) as (router, port):
        empty, before = memory(router), spent(router)
        number = count if connections else max(1, count // links)
        with Generator().idle(port, number, links=links, transport=transport) as speed:
            after, full = spent(router), memory(router)
        time.sleep(Patience.gone)
        left = memory(router)
    each = number if connections else number * links
    return {
        "KB each": (full - empty) / 1e3 / each,
        "left KB each": (left - empty) / 1e3 / each,
        "CPU µs each": (after - before) * 1e6 / each,
        "connections/s": speed if connections else None,
    }


def rounds(count: int) -> Figures:
    """`count` connections come and go, three times: whether what each leaves behind adds up."""
    figures: Figures = {}
    with serving() as (router, port):
        empty = memory(router)
        figures["empty MB"] = empty / 1e6
        for number in range(1, ROUNDS + 1):
            with Generator().idle(port, count):
                figures[f"{number}: MB"] = memory(router) / 1e6
            time.sleep(Patience.gone)
            figures[f"left MB, {number}"] = memory(router) / 1e6
    return figures


def known(count: int) -> Figures:
    """Addresses that a router knows from another one, where there is a receiver on each."""
    with Van().start(Layout(routers=2)) as network:
        far = network.processes[1].pid
        time.sleep(QUIET)
        empty = resident_kib(far) or 0
        with Generator().idle(network.port, max(1, count // LINKS), links=LINKS):
            # They come in batches.
            full, last = resident_kib(far) or 0, -1
            while full != last:
                time.sleep(SETTLING)
                full, last = resident_kib(far) or 0, full
        time.sleep(Patience.gone)
        left = resident_kib(far) or 0
    return {"KB each": (full - empty) * 1.024 / count, "left KB each": (left - empty) * 1.024 / count}


def unsettled(count: int) -> Figures:
    """Deliveries of 100 octets that were sent to receivers, of which none answers."""
    with serving() as (router, port):
        receiver, sender = Peer("receiver"), Peer("sender")
        links = max(1, min(LINKS, count // 250))
        for number in range(links):
            receiver.receiver(f"work/{number}", credit=count)
        at_receiver = dial(receiver, port)
        outgoing = [sender.sender(f"work/{number}") for number in range(links)]
        at_sender = dial(sender, port)
        empty = memory(router)
        sent = 0
        counter, window = Counter(receiver.links[0], 100), Counter(outgoing[0], 100)
        for link in outgoing:
            batches = Batches(link, message(100))
            last = sent + min(link.link_credit, count // links)
            while sent < last:
                number = min(last - sent, window.room(sent, sent)[1])
                if number > 0:
                    at_sender.sendall(batches.make(sent, number))
                    sent += number
                else:
                    window.feed(at_sender.recv(65536))
        while counter.transfers < sent:
            counter.feed(at_receiver.recv(1 << 20))
        full = memory(router)
        for connected in (at_receiver, at_sender):
            connected.close()
        time.sleep(Patience.gone)
        left = memory(router)
    return {"KB each": (full - empty) / 1e3 / sent, "left KB each": (left - empty) / 1e3 / sent}


def fan_out(receivers: int) -> Figures:
    """One sender to a multicast address with many receivers, a connection each."""
    allow_descriptors(receivers)
    generator = Generator()
    count = max(10, 100_000 // receivers)
    with serving() as (router, port):
        total = count * receivers
        load = Load(port=port, address=MULTICAST, count=count, size=100)
        with generator.receive(replace(load, count=total, connections=receivers)) as incoming:
            incoming.wait_ready()
            time.sleep(QUIET)
            before = spent(router)
            with generator.send(load) as outgoing:
                result = incoming.result()
                after = spent(router)
                outgoing.result()
    return {
        "deliveries/s": result["received"] / result["seconds"],
        "CPU µs each": (after - before) * 1e6 / result["received"],
        "arrived %": result["received"] / total * 100,
    }


def storm(rate: float, *, transport: str = "tcp", key: str = "EC") -> Figures:
    """Connections at a rate beside a stream of messages."""
    with serving(transport, key) as (router, port):
        words = [sys.executable, str(MANY_ADDRESSES), "traffic", "--port", str(router.port)]
        stream = subprocess.Popen(
            [*words, "--rate", str(MESSAGES_PER_SECOND)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert stream.stdout is not None
        assert stream.stdin is not None
        try:
            stream.stdout.readline()
            time.sleep(QUIET)
            before, begin = spent(router), time.perf_counter()
            words = [sys.executable, __file__, "--as", "storm", "--port", str(port), "--transport", transport]
            words += ["--rate", str(rate / STORM_PROCESSES), "--seconds", str(Patience.storm)]
            clients = [
                subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment())
                for _ in range(STORM_PROCESSES)
            ]
            results = [json.loads(client.communicate()[0]) for client in clients]
            seconds, after = time.perf_counter() - begin, spent(router)
            output, _ = stream.communicate()
        finally:
            stream.kill()
            stream.wait()
    came, took = json.loads(output)
    number = sum(result["connections"] for result in results)
    messages = len(took) / MESSAGES_PER_SECOND
    took.sort()
    # What the stream itself costs is part of the CPU: some 5 %.
    return {
        "connections/s": number / max(result["seconds"] for result in results),
        "CPU µs each": (after - before) * 1e6 / number if messages else None,
        "router CPU %": (after - before) / seconds * 100,
        "slowest ms": max(result["slowest"] for result in results) * 1e3,
        "pause ms": max(later - earlier for earlier, later in pairwise(came)) * 1e3,
        "p99 ms": took[int(len(took) * 0.99)] * 1e3,
    }


# -------------------------------------------------------------------------------------------------- client processes


def weather(port: int, rate: float, transport: str, seconds: float) -> dict[str, float]:
    """Connect at a rate, one connection after another, attach a link each and stay until the end."""
    allow_descriptors(int(rate * seconds))
    opened: list[Stream] = []
    slowest = 0.0
    begin = due = beat = time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        if now < due:
            time.sleep(due - now)
        due += 1 / rate
        started = time.perf_counter()
        peer = Peer(f"storm {os.getpid()} {len(opened)}")
        peer.receiver(f"storm/{len(opened) % 10}")
        connected = connect(port, transport)
        shake_hands(peer, connected)
        opened.append(connected)
        ended = time.perf_counter()
        slowest = max(slowest, ended - started)
        if ended - beat > BEAT_SECONDS:
            beat = ended
            for each in opened:
                each.sendall(EMPTY_FRAME)
    return {"connections": len(opened), "seconds": time.perf_counter() - begin, "slowest": slowest}


# ---------------------------------------------------------------------------------------------------------- the table

Measure = Callable[[int], Figures]


def _rate(transport: str, key: str, rate: int) -> Figures:
    return storm(float(rate), transport=transport, key=key)


ROWS: dict[str, tuple[str, int, Measure]] = {
    "connections": ("idle connections with a link each", 10_000, partial(held, connections=True)),
    "connections-tls": (
        "idle connections with a link each, TLS",
        10_000,
        partial(held, connections=True, transport="tls"),
    ),
    "rounds": ("connections three times over", 10_000, rounds),
    "links": ("links on one connection, an address each", 1000, partial(held, connections=False, links=LINKS)),
    "addresses": ("links, an address each, on 100 connections", 100_000, partial(held, connections=False, links=LINKS)),
    "known": ("addresses that another router has", 100_000, known),
    "unsettled": ("unsettled deliveries of 100 octets", 100_000, unsettled),
    "fan-out": ("copies of each message", 1000, fan_out),
    "storm": ("connections a second", 500, partial(_rate, "tcp", "")),
    "storm-tls": ("connections a second, TLS, ECDSA P-256", 500, partial(_rate, "tls", "EC")),
    "storm-tls-rsa": ("connections a second, TLS, RSA 2048", 500, partial(_rate, "tls", "RSA")),
}


def run(names: list[str], scale: float) -> dict[str, Figures]:
    """The figures of some rows by their titles."""
    results: dict[str, Figures] = {}
    for name in names:
        title, count, measure = ROWS[name]
        number = max(1, int(count * scale))
        results[f"{number:,}".replace(",", " ") + f" {title}"] = measure(number)
    return results


def main() -> None:
    """Print the figures, or play one role."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: all of {', '.join(ROWS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number")
    parser.add_argument("--gone", type=float, default=GONE_SECONDS, help="seconds until what is left is looked at")
    parser.add_argument("--seconds", type=float, default=Patience.storm, help="how long a storm lasts")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    parser.add_argument("--as", dest="role", choices=("report", "storm"), default="report", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--transport", default="tcp", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == "storm":
        print(json.dumps(weather(arguments.port, arguments.rate, arguments.transport, arguments.seconds)))
        return
    Patience.gone, Patience.storm = arguments.gone, arguments.seconds
    if unknown := set(arguments.rows) - ROWS.keys():
        parser.error(f"no such row: {', '.join(sorted(unknown))}; rows are {', '.join(ROWS)}")
    results = run(arguments.rows or list(ROWS), arguments.scale)
    print(json.dumps(results) if arguments.json else table("scale", results))


if __name__ == "__main__":
    main()
