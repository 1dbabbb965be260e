"""A site of several processes: from outside it is one router, and no process suffers from what happens to another."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.interop.harness import PROJECT, Program, Router
from tests.ports import free_port
from tests.router.running import PATIENCE, until
from tests.router.site_file import SiteFile
from van.amqp import connection as amqp
from van.amqp.message import AmqpValue, Message, Properties
from van.amqp.performatives import Attach
from van.amqp.sasl import AnonymousClient, SaslClient
from van.amqp.terminus import Source, Target
from van.amqp.types import Int
from van.client import Connection, LinkRefusedError, OutcomeState, Requester, UnreachableError, body_of, connect
from van.transport.url import parse_url

SITE = """
[router]
id = "scene"
workers = {workers}

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[address]]
prefix = "mc"
distribution = "multicast"

[[address]]
prefix = "cl"
distribution = "closest"
"""
SECURE = """
[[ssl_profile]]
name = "server"
cert_file = "both.pem"

[[listener]]
name = "secure"
url = "amqps://127.0.0.1:0"
ssl_profile = "server"
"""


def query(kind: str, *names: str, **options: object) -> Message:
    """A request for all entities of a type."""
    return Message(
        application_properties={"operation": "QUERY", "entityType": kind, **options},
        body=AmqpValue({"attributeNames": list(names)}),
    )


async def rows(requester: Requester, kind: str, *names: str, **options: object) -> list[dict[str, Any]]:
    """All entities of a type, or a page of them."""
    reply = await requester.request(query(kind, *names, **options), timeout=10)
    body = body_of(reply)
    assert isinstance(body, dict), reply.application_properties
    return [dict(zip(body["attributeNames"], row, strict=True)) for row in body["results"]]


class Scene:
    """A router of several processes, and what its log says of them."""

    def __init__(self, router: Router) -> None:
        self.router = router

    def opened(self) -> list[dict[str, Any]]:
        return [line for line in self.router.log() if line["event"] == "connection opened"]

    def homes(self) -> dict[str, int]:
        """The process of each connection by its container-id; 0 is worker 0."""
        return {line["container_id"]: line.get("worker", 0) for line in self.opened()}

    async def wait(self, **fields: object) -> dict[str, Any]:
        return await trio.to_thread.run_sync(partial(self.router.wait_for_log, **fields))

    async def count(self, event: str, count: int) -> None:
        """Wait until an event has been logged so often."""
        await until(lambda: sum(line["event"] == event for line in self.router.log()) >= count)

    async def workers(self, count: int) -> list[int]:
        """The processes of so many workers that have been ready since the start."""
        await self.count("worker ready", count)
        return [line["pid"] for line in self.router.log() if line["event"] == "worker ready"]

    async def home(self, name: str) -> int:
        await self.wait(event="connection opened", container_id=name)
        return self.homes()[name]

    @asynccontextmanager
    async def admitted(self, name: str) -> AsyncIterator[Connection]:
        """A client that tries again while there is no room for it."""
        while True:
            async with AsyncExitStack() as stack:
                try:
                    connection = await stack.enter_async_context(connect(self.router.url(), container_id=name))
                except UnreachableError:
                    continue
                yield connection
                return

    @asynccontextmanager
    async def client(self, name: str, worker: int) -> AsyncIterator[Connection]:
        """A client whose connection is in this process; others that come in between are gone again."""
        async with AsyncExitStack() as stack:
            for attempt in range(100):
                own = f"{name}/{attempt}"
                # Each with an address of its own, which so goes to the idlest process.
                connection = await stack.enter_async_context(connect(self.router.url(), container_id=own))
                await stack.enter_async_context(connection.receiver(f"home-of/{own}", credit=0))
                if await self.home(own) == worker:
                    yield connection
                    return
            raise AssertionError("no connection has come to the process")


@pytest.fixture
def start(site: SiteFile) -> Iterator[Callable[..., Scene]]:
    started: list[Router] = []

    def start(workers: int = 2, more: str = "", router: str = "") -> Scene:
        text = SITE.format(workers=workers).replace("[[listener]]", f"{router}\n[[listener]]", 1) + more
        running = Router(site.write(text))
        started.append(running)
        return Scene(running)

    yield start
    for running in started:
        running.kill()


Start = Callable[..., Scene]
Test = Callable[..., Awaitable[None]]


def patient(scene: Test) -> Test:
    """No scene takes for ever."""

    @wraps(scene)
    async def within_time(*arguments: Any, **named: Any) -> None:
        with trio.fail_after(PATIENCE):
            await scene(*arguments, **named)

    return within_time


def running(pid: int) -> bool:
    """Whether this process does anything yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_gone(pid: int) -> None:
    await until(lambda: not running(pid))


# --- from outside


@patient
async def test_ends_that_share_an_address_meet_and_connections_are_split_evenly(start: Start) -> None:
    scene = start(workers=3)
    async with AsyncExitStack() as stack:
        for pair in range(9):
            theirs = await stack.enter_async_context(connect(scene.router.url(), container_id=f"theirs-{pair}"))
            ours = await stack.enter_async_context(connect(scene.router.url(), container_id=f"ours-{pair}"))
            if pair % 2:
                receiver = await stack.enter_async_context(theirs.receiver(f"pair/{pair}", credit=10))
                sender = await stack.enter_async_context(ours.sender(f"pair/{pair}"))
            else:
                sender = await stack.enter_async_context(ours.sender(f"pair/{pair}"))
                receiver = await stack.enter_async_context(theirs.receiver(f"pair/{pair}", credit=10))
            tracker = sender.send_nowait(str(pair))
            delivery = await receiver.receive()
            assert delivery.body == str(pair)
            delivery.accept()
            assert (await tracker.wait()).accepted
        # What the others log comes by way of the first.
        await scene.count("connection opened", 18)
        homes = scene.homes()
    assert [homes[f"theirs-{pair}"] for pair in range(9)] == [homes[f"ours-{pair}"] for pair in range(9)]
    assert sorted(homes.values()) == [0] * 6 + [1] * 6 + [2] * 6


@patient
async def test_many_that_come_at_once_are_all_served(start: Start) -> None:
    # So little memory that frames and windows are smaller for those that come later, and not alike in all processes.
    scene = start(workers=3, router='memory_limit = "24 MiB"\n')
    done = trio.Event()
    served = 0

    async def serve(number: int) -> None:
        nonlocal served
        async with (
            connect(scene.router.url(), container_id=f"c{number}") as connection,
            connection.receiver(f"queue/{number}", credit=1) as receiver,
            connection.sender(f"queue/{number}") as sender,
        ):
            tracker = sender.send_nowait("one")
            (await receiver.receive()).accept()
            assert (await tracker.wait()).accepted
            served += 1
            await done.wait()

    async with trio.open_nursery() as nursery:
        for number in range(90):
            nursery.start_soon(serve, number)
        await until(lambda: served == 90)
        done.set()
    assert not [line for line in scene.router.log() if line["event"] in ("connection refused", "connection failed")]
    homes = list(scene.homes().values())
    assert min(homes.count(worker) for worker in range(3)) >= 25


@patient
async def test_a_client_that_says_all_at_once_and_then_waits_has_its_links(start: Start) -> None:
    """Nothing that it says later makes the process where it goes speak to the others."""
    scene = start()
    async with scene.client("theirs", 0) as theirs, theirs.receiver("orders", credit=10):
        engine = amqp.Connection("eager", accepting=False, sasl=SaslClient([AnonymousClient()]))
        engine.open()
        session = engine.session()
        session.begin()
        receiver = session.receiver("own")
        receiver.attach(Attach(name="", handle=0, role=True, source=Source(address="own"), target=Target()))
        sender = session.sender("orders")
        sender.attach(Attach(name="", handle=0, role=False, source=Source(), target=Target(address="orders")))
        url = parse_url(scene.router.url())
        async with await trio.open_tcp_stream(url.host, url.port) as stream:
            # Less than a heartbeat between the processes, which would bring it all about.
            with trio.fail_after(6):
                while sender.link_credit == 0:
                    if octets := b"".join(engine.data_to_send()):
                        await stream.send_all(octets)
                    engine.receive_data(bytes(await stream.receive_some()), 0.0)
            assert await scene.home("eager") == 1


@patient
async def test_clients_of_one_address_are_spread_when_they_are_many(start: Start) -> None:
    scene = start()
    async with AsyncExitStack() as stack:
        for number in range(40):
            connection = await stack.enter_async_context(connect(scene.router.url(), container_id=f"c{number}"))
            await stack.enter_async_context(connection.receiver("orders", credit=1))
            await scene.home(f"c{number}")
        homes = [scene.homes()[f"c{number}"] for number in range(40)]
        assert homes[:8] == [homes[0]] * 8
        assert abs(homes.count(0) - homes.count(1)) <= 12


@pytest.mark.parametrize(("sending", "receiving"), [(0, 1), (1, 0), (1, 2)])
@patient
async def test_between_processes(start: Start, sending: int, receiving: int) -> None:
    scene = start(workers=3)
    async with (
        scene.client("ours", sending) as ours,
        scene.client("theirs", receiving) as theirs,
        theirs.receiver("orders", credit=200) as receiver,
        ours.sender("orders") as sender,
    ):
        trackers = [sender.send_nowait(str(number)) for number in range(100)]
        for number in range(100):
            delivery = await receiver.receive()
            assert delivery.body == str(number)
            (delivery.accept, delivery.reject, delivery.release)[number % 3]()
        states = [(await tracker.wait()).state for tracker in trackers]
        of_three = [OutcomeState.ACCEPTED, OutcomeState.REJECTED, OutcomeState.RELEASED]
        assert states == [of_three[number % 3] for number in range(100)]
        large = bytes(range(256)) * 8192
        tracker = sender.send_nowait(large)
        delivery = await receiver.receive()
        assert delivery.body == large
        delivery.accept()
        assert (await tracker.wait()).accepted


@patient
async def test_multicast_reaches_everybody_once(start: Start) -> None:
    scene = start(workers=3)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(scene.client(f"c{index}", index % 3)) for index in range(6)]
        receivers = [await stack.enter_async_context(client.receiver("mc/news", credit=10)) for client in clients]
        senders = [await stack.enter_async_context(client.sender("mc/news")) for client in clients[:3]]
        for index, sender in enumerate(senders):
            # Processes hear of one another's receivers in a moment, as routers do.
            missing = set(range(6))
            while missing:
                tracker = sender.send_nowait(f"who hears {index}?")
                while tracker.outcome_now is None:
                    await trio.lowlevel.checkpoint()
                    for number in [number for number, receiver in enumerate(receivers) if receiver.queued]:
                        receivers[number].receive_nowait().accept()
                        missing.discard(number)
        for index, sender in enumerate(senders):
            tracker = sender.send_nowait(f"news from {index}")
            heard = [await receiver.receive() for receiver in receivers]
            for delivery in heard:
                delivery.accept()
            assert {delivery.body for delivery in heard} == {f"news from {index}"}
            assert (await tracker.wait()).accepted
        assert [receiver.queued for receiver in receivers] == [0] * 6


@pytest.mark.parametrize("server", [0, 1])
@pytest.mark.parametrize("client", [0, 1])
@patient
async def test_replies_find_their_way(start: Start, client: int, server: int) -> None:
    scene = start()
    async with (
        scene.client("client", client) as asking,
        scene.client("server", server) as answering,
        answering.receiver("service", credit=10) as requests,
        answering.sender(None) as replies,
        asking.requester("service") as requester,
        trio.open_nursery() as nursery,
    ):

        async def answer() -> None:
            delivery = await requests.receive()
            asked = delivery.message
            delivery.accept()
            assert asked.properties is not None
            reply_to = asked.properties.reply_to
            assert reply_to is not None
            assert reply_to.startswith("amqp:/_topo/0/scene/temp.")
            correlation_id = asked.properties.correlation_id
            reply = Message(properties=Properties(to=reply_to, correlation_id=correlation_id), body=AmqpValue("that"))
            await replies.send(reply)

        nursery.start_soon(answer)
        reply = await requester.request("what?", timeout=10)
        assert reply.body == AmqpValue("that")


@pytest.mark.parametrize("worker", [0, 1])
@patient
async def test_there_is_one_management_node(start: Start, worker: int) -> None:
    scene = start()
    async with scene.client("asks", worker) as connection:
        async with connection.requester("$management") as requester:
            reply = await requester.request(query("router"), timeout=10)
        assert isinstance(reply.application_properties, dict)
        assert reply.application_properties["statusCode"] == 200
        async with connection.requester("amqp:/_topo/0/scene/$management") as requester:
            reply = await requester.request(query("router"), timeout=10)
        assert "scene" in str(reply.body)
        with pytest.raises(LinkRefusedError, match="not-allowed"):
            async with connection.receiver("$management", credit=1):
                pass


@patient
async def test_status_shows_all_processes_as_one(start: Start) -> None:
    scene = start(workers=3)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(scene.client(f"c{index}", index)) for index in range(3)]
        receivers = [await stack.enter_async_context(client.receiver("orders", credit=10)) for client in clients]
        sender = await stack.enter_async_context(clients[1].sender("orders"))
        for _ in range(6):
            tracker = sender.send_nowait("coffee")
            while tracker.outcome_now is None:
                await trio.lowlevel.checkpoint()
                for receiver in receivers:
                    while receiver.queued:
                        receiver.receive_nowait().accept()
        asks = await stack.enter_async_context(clients[2].requester("$management"))

        connections = await rows(asks, "connection")
        names = {line["container_id"] for line in scene.opened()}
        assert {row["container"] for row in connections} == names
        assert len({row["identity"] for row in connections}) == len(connections)
        assert {row["role"] for row in connections} == {"normal"}
        links = await rows(asks, "router.link", "owningAddr", "linkDir", "connectionId", "identity")
        assert sum(row["owningAddr"] == "Morders" for row in links) == 4
        assert {row["connectionId"] for row in links} <= {row["identity"] for row in connections}
        paged: list[dict[str, Any]] = []
        while page := await rows(asks, "router.link", "identity", offset=Int(len(paged)), count=Int(2)):
            assert len(page) <= 2
            paged += page
        assert [row["identity"] for row in paged] == [row["identity"] for row in links]

        (orders,) = [row for row in await rows(asks, "router.address") if row["key"] == "Morders"]
        assert orders["subscriberCount"] == 3
        assert orders["deliveriesIngress"] == 6
        assert orders["deliveriesEgress"] == 6
        assert orders["remoteCount"] == 0
        assert await rows(asks, "router.address", "key", offset=Int(1), count=Int(2))
        (metrics,) = await rows(asks, "routerMetrics")
        assert metrics["connectionCount"] == len(connections)
        assert metrics["linkCount"] >= len(links)
        assert metrics["deliveriesIngress"] >= 6
        assert metrics["deliveriesTransit"] == 0
        assert metrics["acceptedDeliveries"] >= 6
        (router,) = await rows(asks, "router")
        assert router["workerThreads"] == 3

        for row in connections:
            request = Message(
                application_properties={"operation": "READ", "type": "connection", "identity": row["identity"]}
            )
            entity = body_of(await asks.request(request, timeout=10))
            assert isinstance(entity, dict)
            assert entity["container"] == row["container"]
        for operation, wrong in (("READ", {"type": "connection", "identity": "4711"}), ("QUERY", {"entityType": "x"})):
            request = Message(application_properties={"operation": operation, **wrong})
            reply = await asks.request(request, timeout=10)
            assert reply.application_properties is not None
            assert reply.application_properties["statusCode"] in (400, 404)
        command = [sys.executable, "-m", "van.cli", "status", "connections", "--url", scene.router.url()]
        shown = await trio.run_process(command, capture_stdout=True)
        assert all(name in shown.stdout.decode() for name in names)


@patient
async def test_a_worker_that_does_not_answer_is_left_out_of_status(start: Start) -> None:
    scene = start()
    (pid,) = await scene.workers(1)
    async with scene.client("here", 0) as here, scene.client("there", 1), here.requester("$management") as asks:
        before = await rows(asks, "connection", "container")
        os.kill(pid, signal.SIGSTOP)
        during = await rows(asks, "connection", "container")
        os.kill(pid, signal.SIGCONT)
        assert len(during) < len(before)
        assert len(await rows(asks, "connection", "container")) == len(before)
    await scene.wait(event="worker does not answer", worker=1)


@patient
async def test_the_limit_of_connections_is_that_of_all_processes(start: Start) -> None:
    scene = start(router="max_connections = 3\n")
    async with AsyncExitStack() as stack:
        for number in range(5):
            # One that ends makes room for another, wherever it was, as soon as worker 0 has heard of it.
            async with AsyncExitStack() as one:
                name = f"c{number}"
                connection = await one.enter_async_context(scene.admitted(name))
                await one.enter_async_context(connection.receiver(f"q{number}", credit=1))
                await scene.home(name)
                if number not in (1, 2):
                    stack.push_async_callback(one.pop_all().aclose)
        assert {scene.homes()[f"c{number}"] for number in (0, 3, 4)} == {0, 1}
        with pytest.raises(UnreachableError):
            async with connect(scene.router.url()):
                pass
        await scene.wait(event="connection refused", reason="max_connections of the router (3) is reached")


@patient
async def test_encrypted_connections_are_split_when_they_are_accepted(
    start: Start, certificates: SiteFile
) -> None:
    scene = start(more=SECURE)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                connect(
                    scene.router.url(listener="secure", scheme="amqps"),
                    container_id=f"c{number}",
                    ca_cert_file=certificates.folder / "ca.pem",
                )
            )
            for number in range(6)
        ]
        receiver = await stack.enter_async_context(clients[0].receiver("orders", credit=1))
        sender = await stack.enter_async_context(clients[1].sender("orders"))
        tracker = sender.send_nowait("secret")
        (await receiver.receive()).accept()
        assert (await tracker.wait()).accepted
        assert sorted(scene.homes().values()) == [0, 0, 0, 1, 1, 1]


# --- processes that end


@patient
async def test_a_worker_that_is_killed_takes_its_connections_with_it_and_nothing_else(start: Start) -> None:
    scene = start()
    (pid,) = await scene.workers(1)
    async with (
        scene.client("here", 0) as here,
        scene.client("there", 1) as there,
        scene.client("sends", 0) as sends,
        here.receiver("orders", credit=10) as receiver,
        sends.sender("orders") as sender,
        there.receiver("lost", credit=10),
        sends.sender("lost") as losing,
    ):
        await losing.wait_for_credit()
        tracker = losing.send_nowait("in doubt")
        os.kill(pid, signal.SIGKILL)
        assert (await tracker.wait()).state in (OutcomeState.MODIFIED, OutcomeState.RELEASED)
        await there.wait_closed()
        assert here.open
        assert (await scene.wait(event="worker lost"))["reason"] == "ended by SIGKILL"
        sending = sender.send_nowait("still here")
        (await receiver.receive()).accept()
        assert (await sending.wait()).accepted
        assert (await scene.workers(2))[1] != pid
        async with scene.client("again", 1) as again, again.receiver("lost", credit=10) as found:
            await losing.wait_for_credit()
            tracker = losing.send_nowait("found")
            (await found.receive()).accept()
            assert (await tracker.wait()).accepted
    scene.router.end(signal.SIGTERM)


@patient
async def test_nobody_is_left_when_worker_0_is_killed(start: Start) -> None:
    scene = start(workers=3)
    pids = await scene.workers(2)
    scene.router.end(signal.SIGKILL)
    for pid in pids:
        await until_gone(pid)


def test_workers_are_of_the_same_code_wherever_the_router_is_started(site: SiteFile, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "van"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise RuntimeError")
    words = [sys.executable, "-P", "-m", "van.router", str(site.write(SITE.format(workers=2)))]
    program = Program(words, {"PYTHONPATH": str(PROJECT)}, other.parent)
    try:
        program.wait_for_error("worker ready")
    finally:
        program.kill()


@patient
async def test_signals_are_worker_0s_to_carry_out(start: Start) -> None:
    scene = start()
    (pid,) = await scene.workers(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        os.kill(pid, number)
    async with scene.client("there", 1):
        scene.router.signal(signal.SIGUSR1)
        line = await scene.wait(event="state", worker=1)
        assert line["connections"] >= 1
    assert await scene.workers(1) == [pid]


@patient
async def test_what_is_under_way_between_processes_is_settled_before_the_end(start: Start) -> None:
    scene = start()
    (pid,) = await scene.workers(1)
    async with (
        scene.client("ours", 1) as ours,
        scene.client("theirs", 0) as theirs,
        theirs.receiver("orders", credit=1) as receiver,
        ours.sender("orders") as sender,
        theirs.sender("back") as returning,
        ours.receiver("back", credit=1) as returned,
    ):
        tracker = sender.send_nowait("one coffee")
        delivery = await receiver.receive()
        await returning.wait_for_credit()
        back = returning.send_nowait("change")
        change = await returned.receive()
        scene.router.signal(signal.SIGTERM)
        await scene.wait(event="draining", worker=1)
        delivery.accept()
        change.accept()
        assert (await tracker.wait()).accepted
        assert (await back.wait()).accepted
        for connection in (ours, theirs):
            error = await connection.wait_closed()
            assert error is not None
            assert error.condition == "amqp:connection:forced"
    await trio.to_thread.run_sync(scene.router.wait_for_end)
    assert not running(pid)
    events = [line["event"] for line in scene.router.log()]
    assert events[-1] == "stopped"
    assert "not settled in time, given back to their senders" not in events
    assert not [line for line in scene.router.log() if "exception" in line or line["level"] == "error"]


@patient
async def test_a_second_signal_ends_all_at_once(start: Start) -> None:
    scene = start()
    (pid,) = await scene.workers(1)
    async with (
        scene.client("ours", 1) as ours,
        ours.receiver("orders", credit=1) as receiver,
        ours.sender("orders") as sender,
    ):
        sender.send_nowait("never settled")
        await receiver.receive()
        scene.router.signal(signal.SIGTERM)
        await scene.wait(event="draining", worker=1)
        scene.router.signal(signal.SIGTERM)
        await ours.wait_closed()
    await trio.to_thread.run_sync(scene.router.wait_for_end)
    await until_gone(pid)


# --- a new configuration


@patient
async def test_a_reload_reaches_all_and_a_bad_file_reaches_nobody(start: Start, site: SiteFile) -> None:
    scene = start()
    text = SITE.format(workers=2)
    site.write(text.replace("multicast", "balanced") + "[log]\nlevel = 'debug'\n")
    scene.router.signal(signal.SIGHUP)
    line = await scene.wait(event="configuration reloaded")
    assert line["taken_over"] == ["log.level", "address"]
    async with scene.client("there", 1) as there, there.receiver("mc/one", credit=10) as one:
        async with there.receiver("mc/one", credit=10) as other, there.sender("mc/one") as sender:
            trackers = [sender.send_nowait(str(number)) for number in range(2)]
            for receiver in (one, other):
                (await receiver.receive()).accept()
            for tracker in trackers:
                assert (await tracker.wait()).accepted
        site.write("nonsense")
        scene.router.signal(signal.SIGHUP)
        await scene.wait(event="configuration not reloaded, the old one stays")
        site.write(SITE.format(workers=3).replace("multicast", "closest"))
        scene.router.signal(signal.SIGHUP)
        line = await scene.wait(event="configuration reloaded", needs_restart=["router.workers"])
    scene.router.end(signal.SIGTERM)


# --- in a network

NETWORK = """
[[listener]]
name = "routers"
url = "amqp://127.0.0.1:{port}"
role = "inter-router"
"""
NEIGHBOUR = """
[router]
id = "neighbour"
mode = "interior"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[connector]]
url = "amqp://127.0.0.1:{port}"
role = "inter-router"
"""


@patient
async def test_a_neighbour_sees_one_router(site: SiteFile) -> None:
    port = free_port()
    text = SITE.format(workers=2).replace("[router]", '[router]\nmode = "interior"') + NETWORK.format(port=port)
    first = Router(site.write(text))
    try:
        second = Router(site.write(NEIGHBOUR.format(port=port)))
        try:
            scene = Scene(first)
            async with (
                scene.client("there", 1) as there,
                there.receiver("orders", credit=10) as receiver,
                connect(second.url()) as far,
                far.sender("orders") as sender,
                far.receiver("back", credit=10) as returned,
                there.sender("back") as returning,
            ):
                for sending, receiving in ((sender, receiver), (returning, returned)):
                    await sending.wait_for_credit()
                    tracker = sending.send_nowait("across")
                    (await receiving.receive()).accept()
                    assert (await tracker.wait()).accepted
                async with there.requester("amqp:/_topo/0/neighbour/$management") as requester:
                    for kind in ("router.node", "router.address", "connection", "router.link"):
                        reply = await requester.request(query(kind), timeout=10)
                        assert "neighbour" in str(reply.body) or kind != "router.node"
                        assert "#1" not in str(reply.body)
                async with far.requester("amqp:/_topo/0/scene/$management") as requester:
                    reply = await requester.request(query("connection"), timeout=10)
                    assert "#1" not in str(reply.body)
        finally:
            second.kill()
    finally:
        first.kill()
