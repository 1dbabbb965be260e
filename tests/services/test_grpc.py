"""Calls of gRPC by grpcio over three sites: all four kinds, who answers them, and what a client hears of failures."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import grpc
import pytest
import trio

from tests.interop.programs.sites import Sites, service, three_sites
from tests.router.running import PLAIN, running
from tests.router.site_file import SiteFile
from tests.services.grpc_ends import Handlers, Stub, client, eventually, server, status_of

ADDRESSES = ("calls", "nobody", "mortal")
# For calls whose length is none of the test's business.
PATIENCE = 20.0


class Scene:
    """Two servers behind `calls` in the east, none behind `nobody`; behind `mortal` one here and one that may die."""

    def __init__(self, sites: Sites, servers: list[Handlers], stubs: dict[str, Stub]) -> None:
        self.sites = sites
        self.servers = servers
        self.stub = stubs["calls"]
        self.stubs = stubs

    def waiting(self) -> Handlers:
        """The server that has got a call to `Wait` or `Watch`."""
        eventually(lambda: any(handlers.begun.is_set() for handlers in self.servers))
        return next(handlers for handlers in self.servers if handlers.begun.is_set())


@pytest.fixture(scope="module")
def mortal() -> Iterator[subprocess.Popen[str]]:
    """A server of gRPC that is a process of its own."""
    command = [sys.executable, "-m", "tests.services.grpc_ends", "mortal"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def module_scene(tmp_path_factory: pytest.TempPathFactory, mortal: subprocess.Popen[str]) -> Iterator[Scene]:
    assert mortal.stdout is not None
    with server("one") as (one, handlers), server("two") as (two, others):
        west = "".join(service("listen", "http2://127.0.0.1:0", address) for address in ADDRESSES)
        there = [("calls", one), ("calls", two), ("mortal", int(mortal.stdout.readline())), ("mortal", two)]
        east = "".join(
            service("connect", f"http2://127.0.0.1:{port}", address, name=f"server{number}")
            for number, (address, port) in enumerate(there)
        )
        with three_sites(tmp_path_factory.mktemp("grpc"), west, east) as sites:
            here = {address: sites.port_of(address) for address in ADDRESSES}
            with client(here["calls"]) as calls, client(here["nobody"]) as nobody, client(here["mortal"]) as mortals:
                stubs = dict(zip(ADDRESSES, (calls, nobody, mortals), strict=True))
                for stub in (calls, mortals):
                    eventually(lambda stub=stub: reached(stub))
                yield Scene(sites, [handlers, others], stubs)


def reached(stub: Stub) -> bool:
    """Whether the sites know of the servers."""
    future = stub.unary.future(b"", timeout=PATIENCE)
    return future.exception() is None


@pytest.fixture
def scene(module_scene: Scene) -> Scene:
    for handlers in module_scene.servers:
        handlers.reset()
    return module_scene


def test_all_four_kinds_of_calls(scene: Scene) -> None:
    stub = scene.stub
    assert stub.unary(b"hello", timeout=PATIENCE)[3:] == b":hello"
    assert stub.collect(iter([b"a", b"b", b"c"]), timeout=PATIENCE)[3:] == b":a,b,c"
    assert [answer[3:] for answer in stub.count(b"3", timeout=PATIENCE)] == [b":0", b":1", b":2"]
    assert [answer[3:] for answer in stub.chat(iter([b"a", b"b"]), timeout=PATIENCE)] == [b":a", b":b"]


def test_empty_ones(scene: Scene) -> None:
    stub = scene.stub
    assert stub.unary(b"", timeout=PATIENCE)[3:] == b":"
    assert stub.collect(iter(()), timeout=PATIENCE)[3:] == b":"
    assert list(stub.count(b"0", timeout=PATIENCE)) == []
    assert list(stub.chat(iter(()), timeout=PATIENCE)) == []


def test_large_messages_both_ways(scene: Scene) -> None:
    large = bytes(range(256)) * 12_000
    assert scene.stub.unary(large, timeout=PATIENCE)[4:] == large


def test_a_conversation_goes_back_and_forth(scene: Scene) -> None:
    """Each question is asked when the answer to the one before is there."""
    questions: Queue[bytes | None] = Queue()
    answers = scene.stub.chat(iter(questions.get, None), timeout=PATIENCE)
    for number in range(20):
        questions.put(b"%d" % number)
        assert next(answers)[3:] == b":%d" % number
    questions.put(None)
    assert list(answers) == []


def test_calls_of_one_connection_go_to_both_servers(scene: Scene) -> None:
    futures = [scene.stub.unary.future(b"x", timeout=PATIENCE) for _ in range(100)]
    answered = Counter(future.result().partition(b":")[0] for future in futures)
    assert set(answered) == {b"one", b"two"}
    # Those that were answered swiftly free their server for more.
    assert min(answered.values()) >= 20


def test_metadata_both_ways(scene: Scene) -> None:
    answer, call = scene.stub.unary.with_call(b"x", timeout=PATIENCE, metadata=(("echo", "a b"),))
    assert answer.endswith(b":x")
    assert ("echoed", "a b") in [tuple(each) for each in call.initial_metadata()]
    trailing = dict(call.trailing_metadata())
    assert (trailing["echoed-bin"], trailing["last"]) == (b"\0\xff", "yes")


def test_a_status_and_its_message_pass(scene: Scene) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        scene.stub.fail(b"", timeout=PATIENCE)
    assert status_of(caught.value) == grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == "no: 100 % ünfit"
    with pytest.raises(grpc.RpcError) as caught:
        scene.stub.unknown(b"", timeout=PATIENCE)
    assert status_of(caught.value) == grpc.StatusCode.UNIMPLEMENTED


def test_the_deadline_goes_with_the_call(scene: Scene) -> None:
    scene.stub.unary(b"x", timeout=1000.0)
    scene.stub.unary(b"x")
    told = sorted(deadline or 0.0 for handlers in scene.servers for deadline in handlers.deadlines)
    # It is rounded up on its way; without one the time is as good as infinite.
    assert 900.0 < told[0] < 1100.0
    assert told[1] > 1e6


def test_a_deadline_passes(scene: Scene) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        scene.stub.wait(b"", timeout=0.3)
    assert status_of(caught.value) == grpc.StatusCode.DEADLINE_EXCEEDED
    # The server hears of it.
    assert scene.waiting().cancelled.wait(PATIENCE)


def test_a_call_is_cancelled(scene: Scene) -> None:
    answers = scene.stub.watch(b"", timeout=PATIENCE)
    assert next(answers) in (b"one", b"two")
    answers.cancel()
    assert scene.waiting().cancelled.wait(PATIENCE)
    for handlers in scene.servers:
        handlers.reset()
    future = scene.stub.wait.future(b"", timeout=PATIENCE)
    handlers = scene.waiting()
    future.cancel()
    assert handlers.cancelled.wait(PATIENCE)


def test_where_nobody_serves_a_call_is_unavailable(scene: Scene) -> None:
    stub = scene.stubs["nobody"]
    for future in (stub.unary.future(b"x", timeout=PATIENCE), stub.watch(b"x", timeout=PATIENCE)):
        with pytest.raises(grpc.RpcError) as caught:
            future.result()
        assert status_of(caught.value) == grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "no server receives requests for nobody"


def test_a_server_dies_in_the_middle(scene: Scene, mortal: subprocess.Popen[str]) -> None:
    """Whoever is served by it hears so promptly; the others notice nothing, and then serve all calls."""
    stub = scene.stubs["mortal"]
    futures = [stub.wait.future(b"", timeout=PATIENCE) for _ in range(6)]
    streams = [stub.watch(b"", timeout=PATIENCE) for _ in range(6)]
    first = [next(answers) for answers in streams]
    assert Counter(first) == {b"mortal": 3, b"two": 3}
    mortal.kill()
    # Whoever is with the server that lives waits for leave.
    eventually(lambda: sum(future.done() for future in futures) == 3)
    failed = [future.exception() for future in futures if future.done()]
    assert [status_of(error) for error in failed] == [grpc.StatusCode.UNAVAILABLE] * 3
    for name, answers in zip(first, streams, strict=True):
        if name == b"mortal":
            with pytest.raises(grpc.RpcError) as caught:
                next(answers)
            assert status_of(caught.value) == grpc.StatusCode.UNAVAILABLE
    assert {stub.unary(b"x", timeout=PATIENCE) for _ in range(20)} == {b"two:x"}
    scene.servers[1].go_on.set()
    assert [future.result() for future in futures if not future.exception()] == [b"two"] * 3
    assert [list(answers) for name, answers in zip(first, streams, strict=True) if name == b"two"] == [[]] * 3


async def test_a_reader_that_stops_stops_the_server(tmp_path: Path) -> None:
    """What the site holds meanwhile is bounded; other calls of the connection go on."""
    with server("one") as (port, handlers):
        text = "\n".join(
            (
                PLAIN,
                service("listen", "http2://127.0.0.1:0", "calls"),
                service("connect", f"http2://127.0.0.1:{port}", "calls", name="server"),
            )
        )
        async with running(SiteFile(tmp_path), text) as site:
            await site.line("service listening")
            (here,) = [one.endpoint.port for one in site.site.services.running.values() if one.entry.listen is not None]
            budget = site.site.router.budget
            await trio.to_thread.run_sync(slow_reader, here, handlers, budget.held)


def slow_reader(port: int, handlers: Handlers, held: object) -> None:
    total = 200 * 1024 * 1024
    assert callable(held)
    with client(port) as stub:
        answers = stub.pour(b"%d" % total, timeout=PATIENCE)
        assert len(next(answers)) == 65536
        seen = [-1, -1, -1]
        while len(set(seen[-3:])) > 1 or seen[-1] < 65536:
            stub.unary(b"x", timeout=PATIENCE)
            trio.from_thread.run(trio.sleep, 0.1)
            seen.append(handlers.sent)
        assert handlers.sent < total // 4
        assert held() <= 4 * 1024 * 1024
        read = 65536
        for answer in answers:
            read += len(answer)
            if read > total // 2:
                break
        answers.cancel()
        eventually(lambda: held() == 0)
