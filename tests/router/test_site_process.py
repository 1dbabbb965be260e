"""A router as a process of its own: its ready line, its signals, its exit codes, and what it asks of the system."""

from __future__ import annotations

import ctypes
import mmap
import resource
import signal
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from tests.interop.harness import Program, Router
from tests.router.running import PATIENCE, PLAIN
from tests.router.site_file import SiteFile
from van.amqp.framing import AMQP_HEADER, encode_frame
from van.amqp.performatives import Open
from van.client import connect
from van.router.process import (
    ADDRESSES,
    ENDED_CONNECTIONS,
    ENDED_ENOUGH,
    LARGE_PAGE,
    MADV_COLLAPSE,
    OPEN_MAX,
    OPEN_SHARE,
    FullCollections,
    give_back_memory,
    raise_file_limit,
    use_large_pages,
)

PROJECT = Path(__file__).parents[2]

Start = Callable[[str], Router]


@pytest.fixture
def start(site: SiteFile) -> Iterator[Start]:
    started: list[Router] = []

    def start(text: str = PLAIN) -> Router:
        router = Router(site.write(text))
        started.append(router)
        return router

    yield start
    for router in started:
        router.kill()


def stopped(router: Router) -> list[str]:
    """The events in its log, of a router that has ended as told."""
    assert not [line for line in router.log() if "exception" in line]
    return [line["event"] for line in router.log()]


def test_the_ready_line_has_the_real_ports(start: Start) -> None:
    router = start(f'{PLAIN}\n[[listener]]\nname = "more"\nurl = "amqp://localhost:0"\n')
    ready = router.wait_for_log(event="ready")
    assert ready["router"] == "scene"
    assert set(ready["listeners"]) == {"open", "more"}
    for addresses in ready["listeners"].values():
        for address in addresses:
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port))).close()
    router.end(signal.SIGTERM)
    assert stopped(router)[-1] == "stopped"


def test_a_port_that_is_taken_ends_it_with_1_and_nothing_is_served(site: SiteFile) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = site.write(f'{PLAIN}\n[[listener]]\nurl = "amqp://127.0.0.1:{port}"\n')
        program = Program([sys.executable, "-m", "van.router", str(path)], {"PYTHONPATH": str(PROJECT)})
        try:
            assert program.output(status=1) == []
        finally:
            program.kill()
    (line,) = program.errors
    assert "cannot listen" in line
    assert str(port) in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_ends_with_0(start: Start, number: signal.Signals) -> None:
    router = start(PLAIN)
    router.end(number)
    assert stopped(router) == ["ready", "draining", "stopped"]
    (draining,) = (line for line in router.log() if line["event"] == "draining")
    assert draining["reason"] == number.name


async def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    router = start(PLAIN)
    with trio.fail_after(PATIENCE):
        async with (
            connect(router.url()) as connection,
            connection.receiver("q", credit=1) as receiver,
            connection.sender("q") as sender,
        ):
            sender.send_nowait("x")
            await receiver.receive()
            router.signal(signal.SIGTERM)
            await trio.to_thread.run_sync(lambda: router.wait_for_log(event="draining", in_flight=1))
            begun = trio.current_time()
            router.signal(signal.SIGTERM)
            await connection.wait_closed()
            await trio.to_thread.run_sync(lambda: router.wait_for_end(status=0))
            assert trio.current_time() - begun < 2
    assert stopped(router)[-1] == "stopped"


def test_a_reload_by_signal(start: Start, site: SiteFile) -> None:
    router = start(PLAIN)
    more = '[[listener]]\nname = "more"\nurl = "amqp://127.0.0.1:0"\n'
    site.write(f"{PLAIN}max_connections = 2\n{more}")
    router.signal(signal.SIGHUP)
    line = router.wait_for_log(event="configuration reloaded")
    assert line["taken_over"] == ['listener "open".max_connections']
    assert line["needs_restart"] == ['listener "more"']
    site.write("nonsense")
    router.signal(signal.SIGHUP)
    line = router.wait_for_log(event="configuration not reloaded, the old one stays")
    assert line["errors"][0].startswith(f"{site.path}:1:")
    router.end(signal.SIGTERM)
    assert stopped(router)[-1] == "stopped"


async def test_what_there_is_is_written_on_demand(start: Start) -> None:
    router = start(PLAIN)
    with trio.fail_after(PATIENCE):
        async with (
            connect(router.url(), container_id="the-client") as connection,
            connection.receiver("q", credit=0) as receiver,
            connection.sender("q") as sender,
            connection.sender("nobody"),
        ):
            tracker = sender.send_nowait("x")
            # Its own Attach comes back behind what was sent before: then the message is there.
            async with connection.sender("nobody else"):
                router.signal(signal.SIGUSR1)
                await trio.to_thread.run_sync(lambda: router.wait_for_log(event="link", address="nobody else"))
            receiver.grant(1)
            (await receiver.receive()).accept()
            await tracker.wait()
    lines = list(router.log())
    tasks = [line["task"] for line in lines if line["event"] == "task"]
    for task in ("van.router.signals.watch_signals", "van.router.site.Site._deadlines"):
        assert task in tasks
    (first, *_) = (line for line in lines if line["event"] == "connection")
    assert (first["container_id"], first["transport"], first["links"]) == ("the-client", "tcp", 4)
    assert (first["unsettled"], first["waiting"]) == (1, 1)
    links = {(line["address"], line["direction"]): line for line in lines if line["event"] == "link"}
    assert {key: line["waits_for"] for key, line in links.items()} == {
        ("q", "out"): "the receiver's credit",
        ("q", "in"): "",
        ("nobody", "in"): "a receiver",
        ("nobody else", "in"): "a receiver",
    }
    assert (links["q", "out"]["undelivered"], links["q", "in"]["unsettled"], links["q", "in"]["credit"]) == (1, 1, 249)
    (state,) = (line for line in lines if line["event"] == "state")
    assert (state["in_flight"], state["connections"]) == (1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_bare_router_is_small_and_may_open_many_files(start: Start) -> None:
    router = start(PLAIN)
    status = dict(line.split(":", 1) for line in Path(f"/proc/{router.pid}/status").read_text().splitlines())
    assert int(status["VmRSS"].split()[0]) < 45 * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert resource.prlimit(router.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    # What only some routers need is not loaded.
    maps = Path(f"/proc/{router.pid}/maps").read_text()
    assert "cryptography" not in maps


def test_a_peer_that_never_answers_delays_the_end_by_little(start: Start) -> None:
    router = start(PLAIN)
    with socket.create_connection(("127.0.0.1", router.port("open"))) as peer:
        peer.sendall(AMQP_HEADER + encode_frame(0, Open(container_id="mute").encode()))
        router.wait_for_log(event="connection opened")
        router.end(signal.SIGTERM)
    events = ["ready", "connection opened", "draining", "connections cut", "connection closed", "stopped"]
    assert stopped(router) == events


def test_without_a_hard_limit_a_usual_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, int]] = []

    def setrlimit(_which: int, limits: tuple[int, int]) -> None:
        if limits[0] == resource.RLIM_INFINITY:
            raise ValueError("current limit exceeds maximum limit")
        taken.append(limits)

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    assert raise_file_limit() == OPEN_MAX
    assert taken == [(OPEN_MAX, resource.RLIM_INFINITY)]

    def refuse(_which: int, _limits: tuple[int, int]) -> None:
        raise OSError("no")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_file_limit() == 256


def test_a_full_collection_comes_when_many_connections_have_ended() -> None:
    done: list[str] = []
    collections = FullCollections(lambda: done.append("collected"), lambda: done.append("gave back"))
    for _ in range(ENDED_CONNECTIONS - 1):
        collections.connection_ended()
    collections.tidy(0, quiet=False)
    assert not done
    collections.connection_ended()
    collections.tidy(2 * OPEN_SHARE * ENDED_CONNECTIONS, quiet=False)
    assert not done, "a quarter of the open ones has not ended"
    collections.tidy(OPEN_SHARE * ENDED_CONNECTIONS, quiet=False)
    collections.tidy(0, quiet=False)
    assert done == ["collected"]
    collections.tidy(0, quiet=True)
    collections.tidy(0, quiet=True)
    assert done == ["collected", "gave back"]


def test_memory_is_given_back_when_enough_have_ended_and_no_more_end() -> None:
    done: list[str] = []
    collections = FullCollections(lambda: done.append("collected"), lambda: done.append("gave back"))
    for _ in range(ENDED_ENOUGH):
        collections.tidy(0, quiet=True)
        collections.connection_ended()
    collections.tidy(0, quiet=False)
    collections.tidy(2 * OPEN_SHARE * ENDED_ENOUGH, quiet=True)
    assert not done
    collections.tidy(0, quiet=True)
    assert done == ["gave back"]


def test_memory_is_given_back_when_many_addresses_were_forgotten() -> None:
    done: list[str] = []
    collections = FullCollections(lambda: done.append("collected"), lambda: done.append("gave back"))
    collections.addresses_forgotten(ADDRESSES * (ENDED_ENOUGH - 1))
    collections.tidy(0, quiet=True)
    assert not done
    collections.addresses_forgotten(ADDRESSES)
    collections.tidy(0, quiet=False)
    assert not done
    collections.tidy(0, quiet=True)
    assert done == ["gave back"]


def test_giving_memory_back_frees_what_refers_to_itself() -> None:
    class Ring:
        def __init__(self) -> None:
            self.ring = self

    gone = weakref.ref(Ring())
    give_back_memory()
    assert gone() is None


def huge() -> int:
    """Octets of this process that lie in large pages."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * 1024
    return 0


def collapses() -> bool:
    """Whether the system moves memory to large pages when asked."""
    if sys.platform != "linux":
        return False
    memory = mmap.mmap(-1, 2 * LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(b"\1" * len(memory))
    place = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    place += -place % LARGE_PAGE
    failed: int = ctypes.CDLL(None).madvise(ctypes.c_void_p(place), ctypes.c_size_t(LARGE_PAGE), MADV_COLLAPSE)
    return not failed


@pytest.mark.skipif(not collapses(), reason="no large pages on demand here")
def test_what_is_in_memory_lies_in_large_pages_afterwards() -> None:
    kept = [str(number) for number in range(200_000)]
    moved = use_large_pages()
    assert moved >= LARGE_PAGE
    assert huge() >= moved
    assert kept == [str(number) for number in range(200_000)]
