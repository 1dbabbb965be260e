"""What stuck receivers in front of senders of 1 MiB messages cost everybody else.

`python benchmarks/stuck_receiver.py [--seconds 60] [--memory-limit "64 MiB"]`. On other addresses small messages are
sent all the time, and their rate is measured without the stuck ones, with them, and without them again. Stuck are a
receiver that is stopped (SIGSTOP) with credit out, and one that has one credit and takes a message a second.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import time
from statistics import median

import measure
from generators import Generator
from measure import RouterProcess, environment, resident_kib
from rows import CPU, RATE, stream

from van.amqp.connection import Connection
from van.amqp.delivery import Delivery, DeliverySink, DeliverySource, Holder
from van.amqp.delivery_state import ACCEPTED
from van.amqp.performatives import Attach
from van.amqp.terminus import Source, Target

# One turn of the small messages that are measured.
COUNT = 60_000
LARGE = 1 << 20


class LargeSender(DeliverySource):
    """Always has three messages waiting."""

    def attach(self, connection: Connection, address: str) -> None:
        session = connection.session()
        session.begin()
        self.holder = Holder()
        self.body = b"\x00\x53\x75\xb0" + LARGE.to_bytes(4, "big") + bytes(LARGE)
        self.link = session.sender("large")
        self.link.source = self
        self.link.attach(Attach(name="", handle=0, role=False, source=Source(), target=Target(address=address)))
        self.work()

    def work(self) -> None:
        while len(self.undelivered) < 3:
            self.undelivered.append(Delivery(None, 0, b"", self.body, False, self.holder))
        self.link.ready()

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        """Settled: the next may go."""

    def left(self, delivery: Delivery) -> None:
        """Nothing is sent settled."""


class SlowReceiver(DeliverySink):
    """Has `credit`, and with a `pause` settles one message in so many seconds."""

    def __init__(self, credit: int, pause: float) -> None:
        self.credit = credit
        self.pause = pause
        self.due = 0.0
        self.whole: list[Delivery] = []

    def attach(self, connection: Connection, address: str) -> None:
        session = connection.session()
        session.begin()
        self.link = session.receiver("slow")
        self.link.sink = self
        self.link.attach(Attach(name="", handle=0, role=True, source=Source(address=address), target=Target()))
        self.link.grant(self.credit)

    def deliver(self, delivery: Delivery) -> None:
        self.extend(delivery, b"")

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if delivery.chunks is not None:
            delivery.chunks.clear()
        if not delivery.more:
            self.whole.append(delivery)

    def abort(self, delivery: Delivery) -> None:
        """Nothing of it is kept."""

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        """The sender does not settle first."""

    def work(self) -> None:
        now = time.monotonic()
        if self.whole and now >= self.due:
            self.due = now + self.pause
            self.link.settle(self.whole.pop(), ACCEPTED)
            self.link.grant(1)


def play(role: str, port: int, address: str) -> None:
    """Be one of the stuck pair, until killed."""
    owner: LargeSender | SlowReceiver
    if role == "sender":
        owner = LargeSender()
    else:
        owner = SlowReceiver(1, 1.0) if role == "one-credit" else SlowReceiver(1000, 0.0)
    connection = Connection(role, accepting=False)
    connection.open()
    owner.attach(connection, address)
    with socket.create_connection(("127.0.0.1", port)) as stream_:
        stream_.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream_.settimeout(0.1)
        while True:
            while data := b"".join(connection.data_to_send(65536)):
                stream_.settimeout(None)
                stream_.sendall(data)
                stream_.settimeout(0.1)
            try:
                received = stream_.recv(65536)
            except TimeoutError:
                pass
            else:
                if not received:
                    raise SystemExit(f"{role}: the router has closed the connection")
                connection.receive_data(received, time.monotonic())
            connection.handle_deadline(time.monotonic())
            owner.work()


class Measured:
    """Rates of small messages in one phase, and the largest memory seen."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.cpu: list[float] = []
        self.memory = 0

    def run(self, router: RouterProcess, seconds: float) -> None:
        end = time.monotonic() + seconds
        generator, measure_stream = Generator(), stream()
        while time.monotonic() < end:
            figures = measure_stream(router, generator, COUNT)
            self.rates.append(figures[RATE] or 0.0)
            self.cpu.append(figures[CPU] or 0.0)
            self.memory = max(self.memory, resident_kib(router.pid) or 0)

    def row(self) -> str:
        return (
            f"{median(self.rates):10,.0f} | {median(self.cpu):6.2f} | {self.memory / 1024:6.1f} | {len(self.rates):4}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--memory-limit", default="64 MiB")
    parser.add_argument("--play", nargs=3, metavar=("ROLE", "PORT", "ADDRESS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        role, port, address = arguments.play
        play(role, int(port), address)
        return
    limit = f'id = "benchmark"\nmemory_limit = "{arguments.memory_limit}"'
    measure.SITE = measure.SITE.replace('id = "benchmark"', limit)
    # One that is stopped is silent: it shall stay all the same.
    measure.SITE = measure.SITE.replace("[[listener]]", "[[listener]]\nidle_timeout_seconds = 0")
    without, stuck = Measured(), Measured()
    with RouterProcess() as router:

        def start(role: str, address: str) -> subprocess.Popen[bytes]:
            words = [sys.executable, __file__, "--play", role, str(router.port), address]
            return subprocess.Popen(words, env=environment())

        without.run(router, arguments.seconds / 3)
        stopped = start("stopped", "stuck/stopped")
        clients = [stopped, start("one-credit", "stuck/one-credit")]
        try:
            time.sleep(1)
            clients += [start("sender", "stuck/stopped") for _ in range(2)]
            clients += [start("sender", "stuck/one-credit") for _ in range(2)]
            time.sleep(1)
            stopped.send_signal(signal.SIGSTOP)
            time.sleep(1)
            stuck.run(router, arguments.seconds)
            ended = [client.args for client in clients if client.poll() is not None]
        finally:
            for client in clients:
                client.kill()
                client.wait()
        without.run(router, arguments.seconds / 3)
    print("|             | messages/s | CPU µs | MiB    | turns |")
    print("|-------------|-----------:|-------:|-------:|------:|")
    print(f"| without     | {without.row()} |")
    print(f"| stuck       | {stuck.row()} |")
    kept = median(stuck.rates) / median(without.rates)
    print(f"rate with the stuck ones: {kept:.1%}; memory_limit {arguments.memory_limit}")
    if ended:
        raise SystemExit(f"did not stay: {ended}")


if __name__ == "__main__":
    main()
