"""The workers of a site, as worker 0 sees them: it starts them, gives them connections, and ends them.

    Workers.run
    └── one per worker, again and again
        ├── the process: waited for, killed at the end
        ├── its channel (`channel.py`): written, and read
        └── its uplink: an edge connection to the core of worker 0

Worker 0 accepts all connections. Those whose first octets nobody can answer twice (TLS, WebSocket, SCRAM) go at once to
the process with the fewest connections. With all others it talks until their first link names an address; then they go
where that address is already, as long as the load stays even, so that the ends of most links meet in one process.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from van import __version__
from van.adaptors.amqp import NORMAL, ConnectionSettings, no_log
from van.adaptors.worker import WorkerListenerAdaptor
from van.management.elsewhere import Piece, add, own_rows
from van.management.view import Elsewhere
from van.router.channel import (
    Ask,
    Channel,
    Close,
    Describe,
    Drain,
    Message,
    Over,
    Ready,
    Reconfigure,
    Settled,
    Start,
    Taken,
    Told,
)
from van.router.log import get_logger
from van.router.sections import PLAIN_MECHANISMS, ROUTER_MAX_SESSION_FRAMES, ListenerConfig
from van.routing.address import Address, address_key
from van.routing.edge import EdgeIncomingLink, EdgeOutgoingLink
from van.transport.backoff import Backoff
from van.transport.driver import run_adaptor
from van.transport.listener import Listener

if TYPE_CHECKING:
    from van.adaptors.arriving import Record
    from van.management.elsewhere import Question
    from van.router.config import SiteConfig
    from van.router.site import Site

# How long the site waits for its workers before it says that it is ready; it goes on without those that are late.
START_SECONDS: Final = 20.0
# A worker that was there for so long and ends is started again at once; else the pauses grow.
STABLE_SECONDS: Final = 10.0
# How long a worker may take to end when its uplink is gone, or it was told to: then it is killed.
END_SECONDS: Final = 2.0
# How long worker 0 waits for what a worker knows before it answers without.
ANSWER_SECONDS: Final = 2.0
# Pieces of an answer that have come and were not looked at; the worker is not heard further until they are.
MAX_PIECES: Final = 16
# Frames between processes: a large message comes in few. The deployed routers have 16 KiB between them.
FRAME_SIZE: Final = 65536
# Each address that somebody in a worker uses has a link to worker 0 for its receivers, and one for its senders.
MAX_LINKS: Final = 10_000_000
# A process that says nothing for so long hangs: it is killed, and started again.
SILENCE_SECONDS: Final = 60.0
# A connection follows its address as long as its process has not so many connections more than the idlest one, and no
# more than a fifth more beside.
UNEVEN: Final = 8
UNEVEN_SHARE: Final = 5
# Until a worker has said what it has, this many of the latest addresses are remembered with their processes.
REMEMBERED: Final = 1000


def uplink_settings() -> ConnectionSettings:
    """What holds for the connection between a worker and worker 0, at both ends."""
    return ConnectionSettings(
        max_frame_size=FRAME_SIZE,
        max_session_frames=ROUTER_MAX_SESSION_FRAMES,
        max_links=MAX_LINKS,
        idle_timeout=SILENCE_SECONDS,
    )


def for_worker(config: SiteConfig) -> SiteConfig:
    """What a worker needs of a site's configuration: its listeners for applications, and its share of the memory."""
    return attrs.evolve(
        config,
        router=attrs.evolve(config.router, memory_limit=config.router.memory_share, workers=1),
        listeners=tuple(entry for entry in config.listeners if entry.role == NORMAL),
        connectors=(),
        auto_links=(),
        services=(),
        warnings=(),
    )


class Worker:
    """One worker: `index` counts from 1, `number` is that of its uplink in the core of worker 0.

    `ready` says that it takes connections, `settled` that nothing is under way in it while the site drains.
    `connections` are those that it has, by number, with the listeners that they came to; `coming` the numbers of those
    that are to go there and have not left yet.
    """

    def __init__(self, router_id: str, index: int) -> None:
        self.index = index
        self.number = -index
        self.name = f"{router_id}#{index}"
        self.pid = 0
        self.ready = False
        self.settled = False
        self.tried = trio.Event()
        self.channel: Channel | None = None
        self.adaptor: WorkerListenerAdaptor | None = None
        self.connections: dict[int, Listener] = {}
        self.coming: set[int] = set()
        self._questions = 0
        self._answers: dict[int, trio.MemorySendChannel[Piece]] = {}

    def send(self, message: Message) -> None:
        """Tell the worker something, if it is there."""
        if self.channel is not None:
            self.channel.send(message)

    async def ask(self, question: Question) -> list[Piece] | None:
        """What the worker knows; None when it does not answer in time."""
        self._questions += 1
        number = self._questions
        heard, pieces = trio.open_memory_channel[Piece](MAX_PIECES)
        self._answers[number] = heard
        self.send(Ask(number, question))
        try:
            with trio.move_on_after(ANSWER_SECONDS), pieces:
                return [piece async for piece in pieces]
        finally:
            self._answers.pop(number, None)
        return None

    async def told(self, number: int, piece: Piece | None) -> None:
        """A piece of an answer has come, or its end. Nobody may wait for it any more."""
        heard = self._answers.get(number)
        if heard is not None and piece is not None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await heard.send(piece)
        elif heard is not None:
            heard.close()

    def gone(self) -> None:
        """The worker has ended: nobody answers any more."""
        for heard in self._answers.values():
            heard.close()


class Workers:
    """All workers of a site. `gone` is set when they have ended as they were told.

    `here` are the numbers of the connections that stayed with worker 0 when it was asked where they should be.
    """

    def __init__(self, site: Site, count: int) -> None:
        self._site = site
        self._logger = get_logger("router")
        self._ending = trio.Event()
        self.gone = trio.Event()
        self.all = [Worker(site.config.router.id, index) for index in range(1, count)]
        self.here: set[int] = set()
        # Where the latest connections went because of an address.
        self._latest: dict[str, Worker | None] = {}

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep all workers up until they were told to end, and have."""
        async with trio.open_nursery() as nursery:
            for worker in self.all:
                nursery.start_soon(self._keep_up, worker)
            with trio.move_on_after(START_SECONDS):
                for worker in self.all:
                    await worker.tried.wait()
            task_status.started()
        self.gone.set()

    async def _keep_up(self, worker: Worker) -> None:
        backoff = Backoff(random.random)
        while not self._ending.is_set():
            await trio.sleep(backoff.next_delay())
            begun = trio.current_time()
            try:
                reason = await self._run_one(worker)
            except OSError as error:
                reason = f"it cannot be started: {error.strerror or error}"
            worker.tried.set()
            if self._ending.is_set():
                return
            self._logger.error(
                "worker lost", worker=worker.index, pid=worker.pid, reason=reason, connections=self._forget(worker)
            )
            if trio.current_time() - begun >= STABLE_SECONDS:
                backoff.reset()

    async def _run_one(self, worker: Worker) -> str:
        """Start a worker and stay with it until it has ended. Returns how it did. Raises OSError."""
        ours, theirs = socket.socketpair()
        uplink, downlink = socket.socketpair()
        channel = Channel(ours)
        process: trio.Process | None = None
        try:
            try:
                with theirs, downlink:
                    handed_over = (theirs.fileno(), downlink.fileno())
                    process = await trio.lowlevel.open_process(
                        # Whatever lies in the working directory is not our code.
                        [sys.executable, "-P", "-m", "van.router", "--worker", *map(str, handed_over)],
                        stdin=subprocess.DEVNULL,
                        pass_fds=handed_over,
                        env=_environment(),
                        # What a terminal or a service manager sends to all processes is worker 0's to carry out.
                        start_new_session=True,
                    )
            except BaseException:
                uplink.close()
                raise
            worker.pid = process.pid
            worker.channel = channel
            worker.settled = False
            config = for_worker(self._site.config)
            channel.send(Start(worker.index, worker.name, __version__, config))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.run)
                nursery.start_soon(self._listen, worker, channel)
                linked = trio.Event()
                nursery.start_soon(self._uplink, worker, uplink, linked)
                nursery.start_soon(self._kill_when, linked, process)
                await process.wait()
                # What it has said last is still to be read.
                with trio.move_on_after(END_SECONDS):
                    await linked.wait()
                nursery.cancel_scope.cancel()
            return _how(process.returncode)
        finally:
            worker.ready = False
            worker.channel = None
            worker.gone()
            channel.close()
            if process is not None and process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()

    async def _listen(self, worker: Worker, channel: Channel) -> None:
        while (received := await channel.receive()) is not None:
            message, _ = received
            if isinstance(message, Ready):
                worker.ready = True
                worker.tried.set()
                self._logger.info("worker ready", worker=worker.index, pid=worker.pid)
            elif isinstance(message, Over):
                self._over(worker, message.number)
            elif isinstance(message, Settled):
                worker.settled = True
            elif isinstance(message, Told):
                await worker.told(message.number, message.piece)

    async def _uplink(self, worker: Worker, sock: socket.socket, linked: trio.Event) -> None:
        site = self._site
        try:
            adaptor = worker.adaptor = WorkerListenerAdaptor(
                site.router,
                uplink_settings(),
                number=worker.number,
                log=no_log,
                now=trio.current_time(),
            )
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            await run_adaptor(stream, adaptor, site.wake)
        except* Exception as group:
            self._logger.exception("uplink of a worker failed, a fault of ours", worker=worker.index, exc_info=group)
        finally:
            worker.adaptor = None
            linked.set()

    async def _kill_when(self, linked: trio.Event, process: trio.Process) -> None:
        """A worker that has lost its uplink is of no use."""
        await linked.wait()
        await trio.sleep(END_SECONDS)
        process.kill()

    # -- what is said to all ---------------------------------------------------------------------------------------

    def reconfigure(self, config: SiteConfig) -> None:
        """This is in force now."""
        for worker in self.all:
            worker.send(Reconfigure(for_worker(config)))

    def describe(self) -> None:
        """Have all workers write down what there is."""
        for worker in self.all:
            worker.send(Describe())

    def drain(self, reason: str) -> None:
        """Have all workers let settle what is under way."""
        self._ending.set()
        for worker in self.all:
            worker.send(Drain(reason))

    def close(self) -> None:
        """Have all workers close their connections and end."""
        for worker in self.all:
            worker.send(Close())

    async def ended(self) -> None:
        """Wait for the end of all, for a while."""
        with trio.move_on_after(END_SECONDS):
            await self.gone.wait()

    @property
    def settled(self) -> bool:
        """Whether nothing is under way in any worker that is there."""
        return all(worker.settled or not worker.ready for worker in self.all)

    # -- what they know --------------------------------------------------------------------------------------------

    async def gather(self, question: Question) -> Elsewhere:
        """What all workers know; nothing of those that do not answer."""
        elsewhere = Elsewhere()
        site = self._site
        skip, count = 0, question.count
        if question.rows:
            assert site.management is not None
            own = own_rows(site.management.agent.view(), question.request)
            skip = max(0, question.request.offset - own)
            if count is not None:
                count -= max(0, min(count, own - question.request.offset))
        for worker in [worker for worker in self.all if worker.ready]:
            pieces = await worker.ask(attrs.evolve(question, skip=skip, count=count))
            if pieces is None:
                self._logger.warning("worker does not answer", worker=worker.index, pid=worker.pid)
                continue
            for piece in pieces:
                add(elsewhere, piece)
            skip = max(0, skip - sum(piece.total for piece in pieces))
            if count is not None:
                count -= sum(len(piece.rows) for piece in pieces)
        return elsewhere

    # -- who gets a connection -------------------------------------------------------------------------------------

    def _load(self, worker: Worker | None) -> int:
        if worker is not None:
            return len(worker.connections) + len(worker.coming)
        site = self._site
        pairs = zip(site.listeners, site.config.listeners, strict=True)
        # Of these some are still in the handshake.
        return len(self.here) + sum(listener.connections for listener, entry in pairs if is_placed(entry))

    def _idlest(self) -> Worker | None:
        """Of the processes with the fewest connections the first; None is worker 0."""
        return min((None, *(worker for worker in self.all if worker.ready)), key=self._load)

    def _home(self, text: str) -> Worker | None:
        """The process for a connection whose first link is for this address."""
        idlest = self._idlest()
        if not text:
            return idlest
        router = self._site.router
        key = address_key(text, router.id)
        home = idlest
        address = router.addresses.get(key)
        known = _processes(address) if address is not None else set()
        if known:
            found = [worker for worker in self.all if worker.ready and worker.number in known]
            home = min((*([None] if 0 in known else []), *found), key=self._load, default=idlest)
        elif key in self._latest:
            home = self._latest[key]
        least = self._load(idlest)
        if (home is not None and not home.ready) or self._load(home) >= least + UNEVEN + least // UNEVEN_SHARE:
            home = idlest
        self._latest.pop(key, None)
        self._latest[key] = home
        if len(self._latest) > REMEMBERED:
            del self._latest[next(iter(self._latest))]
        return home

    def elsewhere(self, number: int, text: str, stays: bool) -> Worker | None:
        """Where a connection should be whose first link is for the address `text`; None: here, where it `stays`."""
        home = None if stays else self._home(text)
        (self.here if home is None else home.coming).add(number)
        return home

    def lost(self, number: int) -> None:
        """A connection has ended in this process, or left it."""
        self.here.discard(number)
        for worker in self.all:
            worker.coming.discard(number)

    def depart(self, listener: str, number: int, goal: object, descriptor: int, record: Record) -> None:
        """Give a connection to a worker, with what was said on it."""
        assert isinstance(goal, Worker)
        try:
            given = os.dup(descriptor)
        except OSError as error:
            self._logger.error("connection lost on its way", reason=error.strerror, worker=goal.index)  # noqa: TRY400
            self._site.listener(listener).over()
            return
        self._give(goal, self._site.listener(listener), number, given, record)

    def place(self, listener: str, stream: trio.SocketStream) -> bool:
        """Whether a connection has gone to a worker that was just accepted by a listener of this name."""
        home = self._idlest()
        if home is None:
            return False
        try:
            descriptor = os.dup(stream.socket.fileno())
        except OSError:
            # As good as anywhere else.
            return False
        self._give(home, self._site.listener(listener), self._site.new_number(), descriptor, None)
        return True

    def _give(self, worker: Worker, listener: Listener, number: int, descriptor: int, record: Record | None) -> None:
        if worker.channel is None or not worker.ready:
            # It has ended meanwhile, and its connections with it.
            os.close(descriptor)
            listener.over()
            return
        worker.connections[number] = listener
        said = None
        if record is not None:
            said = (record.received, record.sent, record.frame_size, record.windows)
        worker.channel.send(Taken(number, listener.name, said), descriptor)

    def _over(self, worker: Worker, number: int) -> None:
        listener = worker.connections.pop(number, None)
        if listener is not None:
            listener.over()

    def _forget(self, worker: Worker) -> int:
        """The connections of a worker are gone. Returns how many there were."""
        count = len(worker.connections)
        for number in list(worker.connections):
            self._over(worker, number)
        for key in [key for key, home in self._latest.items() if home is worker]:
            del self._latest[key]
        return count


def is_arriving(entry: ListenerConfig) -> bool:
    """Whether what peers of this listener hear could be said again, so that a connection may move."""
    plain = not entry.url.tls and not entry.url.websocket
    return entry.role == NORMAL and plain and set(entry.sasl_mechanisms) <= PLAIN_MECHANISMS


def is_placed(entry: ListenerConfig) -> bool:
    """Whether connections of this listener go to a process as soon as they are accepted."""
    return entry.role == NORMAL and not is_arriving(entry)


def _processes(address: Address) -> set[int]:
    """The processes that have links for an address: numbers of workers' uplinks, and 0 for worker 0."""
    found = set()
    for link in (*address.incoming, *address.outgoing):
        if not isinstance(link, EdgeIncomingLink | EdgeOutgoingLink):
            found.add(0)
        elif link.peer.worker:
            found.add(link.peer.number)
    return found


def _environment() -> dict[str, str]:
    """That of this process; the worker is to find the same code, from wherever this one was started."""
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
