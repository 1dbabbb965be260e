"""Connections: made by `connect`, driven in the background, and the place where links come from.

    connect
    ├── driver    `run_adaptor`: reader and writer of the stream
    └── flusher   writes what applications queue, a turn of the scheduler at a time

Applications use the block's own task, and as many others as they like. When the connection ends, whatever they wait for
raises; their tasks are not cancelled.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from os import PathLike
from typing import Final

import trio

from van import __version__
from van.amqp.connection import Connection as Engine
from van.amqp.message import Message
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sasl import SaslClient
from van.amqp.sender_link import SenderLink
from van.client._adaptor import ClientAdaptor
from van.client._credentials import make_credentials, make_mechanisms
from van.client._errors import ClientError, ConnectError, UnreachableError
from van.client._receiver import DEFAULT_CREDIT, Receiver
from van.client._request import Replies, Requester
from van.client._sender import DEFAULT_MAX_PENDING, Sendable, Sender
from van.transport.dial import open_stream
from van.transport.driver import run_adaptor
from van.transport.errors import TransportError
from van.transport.info import ConnectionInfo
from van.transport.proxy import parse_proxy_url
from van.transport.url import Url, parse_url

DEFAULT_URL: Final = "amqp://127.0.0.1:5672"

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds for name, TCP, TLS, WebSocket, SASL and Open together."""

DEFAULT_IDLE_TIMEOUT: Final = 16.0
"""Seconds without a frame after which the peer is taken for dead; the routers' own default. 0 for never."""

MAX_FRAME_SIZE: Final = 65536
"""What we take in one frame: messages up to this size come whole, and need no joining."""

CLOSE_TIMEOUT: Final = 6.0
"""Seconds for the peer's Close and the end of the stream, when a block ends in peace or by an exception; a little more
than the engine waits."""

CANCELLED_CLOSE_TIMEOUT: Final = 1.0
"""The same when the block was cancelled: our Close gets out, and the peer does not log a lost client."""


class Connection:
    """An open connection, from `connect`. It may be used by many tasks.

    `url` is where it leads. `container_id` is ours; `remote_container_id`, `remote_properties` and
    `remote_offered_capabilities` are the peer's, as its Open says (2.7.1).
    """

    def __init__(self, adaptor: ClientAdaptor, info: ConnectionInfo) -> None:
        remote = adaptor.connection.remote_open
        assert remote is not None
        self.url = info.url
        self.transport = info.transport
        self.container_id = adaptor.connection.container_id
        self.remote_container_id = remote.container_id
        self.remote_properties: dict[str, object] = dict(remote.properties or {})
        self.remote_offered_capabilities = [str(name) for name in remote.offered_capabilities or ()]
        self._adaptor = adaptor
        self._links = 0

    @property
    def open(self) -> bool:
        """Whether the connection can still be used."""
        return not self._adaptor.over

    async def wait_closed(self) -> ClientError | None:
        """Wait until the connection has ended; returns why, None if it was closed here."""
        await self._adaptor.ended.wait()
        return self._adaptor.error

    @asynccontextmanager
    async def sender(
        self,
        address: str | None,
        *,
        settled: bool = False,
        max_pending: int = DEFAULT_MAX_PENDING,
        capabilities: list[str] | None = None,
        name: str | None = None,
    ) -> AsyncIterator[Sender]:
        """A sender to `address`; with None to the address that each message's properties have in `to`.

        settled: send settled, at most once, with no word about what became of a message. max_pending: how many messages
        may wait for credit or for their outcome. Raises `LinkRefusedError`, `ConnectionClosedError`.

        Leaving the block in peace waits for the outcome of all that was sent (`Sender.wait_settled`); leaving it by an
        exception or cancelled waits for nothing.
        """
        link = SenderLink(self._adaptor.session(), name or self._link_name("sender"))
        sender = Sender(self._adaptor, link, address, settled=settled, max_pending=max_pending)
        try:
            await sender.attach(capabilities)
            yield sender
            await sender.wait_settled()
        finally:
            sender._close()

    @asynccontextmanager
    async def receiver(
        self,
        address: str | None,
        *,
        credit: int = DEFAULT_CREDIT,
        settled: bool = False,
        dynamic: bool = False,
        filters: dict[str, object] | None = None,
        capabilities: list[str] | None = None,
        max_message_size: int | None = None,
        name: str | None = None,
    ) -> AsyncIterator[Receiver]:
        """A receiver from `address`, or with `dynamic` from an address that the peer makes up (`Receiver.address`).

        credit: how many deliveries may wait here; as they are taken the sender may send more. With 0 it gets no credit
        but by `Receiver.grant`. settled: ask for settled deliveries. max_message_size in octets. Raises
        `LinkRefusedError`, `ConnectionClosedError`.
        """
        if (address is None) != dynamic:
            raise ValueError("a receiver has an address, or it is dynamic")
        link = ReceiverLink(self._adaptor.session(), name or self._link_name("receiver"))
        receiver = Receiver(self._adaptor, link, address, credit=credit, settled=settled)
        try:
            await receiver.attach(dynamic, filters, capabilities, max_message_size)
            yield receiver
        finally:
            receiver._close()

    @asynccontextmanager
    async def requester(self, address: str | None) -> AsyncIterator[Requester]:
        """For many requests to one address, with one address for their replies. Raises as `sender` does."""
        link = ReceiverLink(self._adaptor.session(), self._link_name("replies"))
        replies = Replies(self._adaptor, link)
        try:
            await replies.attach(True, None, None, None)
            async with self.sender(address) as sender:
                yield Requester(sender, replies)
        finally:
            replies._close()

    async def request(
        self,
        address: str,
        message: Sendable,
        timeout: float | None = DEFAULT_TIMEOUT,  # noqa: ASYNC109 - the error says in which step it struck
    ) -> Message:
        """Send one request and return its reply: `Requester.request` with links of its own."""
        async with self.requester(address) as requester:
            return await requester.request(message, timeout=timeout)

    def _link_name(self, kind: str) -> str:
        self._links += 1
        return f"{self.container_id}.{kind}.{self._links}"


@asynccontextmanager
async def connect(
    url: str | Url = DEFAULT_URL,
    *,
    sasl_username: str | None = None,
    sasl_password: str | None = None,
    sasl_mechanisms: Sequence[str] | None = None,
    allow_insecure_plain: bool = False,
    ssl_context: ssl.SSLContext | None = None,
    ca_cert_file: str | PathLike[str] | None = None,
    cert_file: str | PathLike[str] | None = None,
    private_key_file: str | PathLike[str] | None = None,
    private_key_password: str | None = None,
    verify_hostname: bool = True,
    proxy: str | None = None,
    container_id: str | None = None,
    hostname: str | None = None,
    properties: dict[str, object] | None = None,
    idle_timeout: float = DEFAULT_IDLE_TIMEOUT,
    timeout: float = DEFAULT_TIMEOUT,  # noqa: ASYNC109 - it covers the opening, not the block
) -> AsyncIterator[Connection]:
    """Connect to `amqp`, `amqps`, `ws` or `wss`; the connection is closed at the end of the block.

    User and password come from the arguments or from the URL. sasl_mechanisms: which may be used (the strongest that
    the peer offers is); by default SCRAM and PLAIN with a password, EXTERNAL with a certificate, ANONYMOUS without a
    password; an empty list leaves the SASL layer out. PLAIN is used on encrypted connections only, unless
    allow_insecure_plain.
    TLS trusts ca_cert_file, or the operating system's authorities, and shows cert_file; or all is as ssl_context says.
    proxy: URL of an HTTP or SOCKS proxy. hostname: the virtual host for Open (2.7.1), by default the URL's host.
    idle_timeout in seconds, 0 for none; timeout in seconds until the peer has opened the connection.

    Raises `UnreachableError`, `AuthenticationError`, `ConnectionClosedError` (it opened, and closed at once), and
    ValueError (`UrlError`, `TlsConfigError`) for arguments that make no sense.
    """
    parsed = parse_url(url) if isinstance(url, str) else url
    user = sasl_username if sasl_username is not None else parsed.user
    password = sasl_password if sasl_password is not None else parsed.password
    mechanisms = make_mechanisms(sasl_mechanisms, user, password, cert_file is not None and parsed.tls)
    deadline = trio.current_time() + timeout
    async with AsyncExitStack() as stack:
        try:
            stream, info = await stack.enter_async_context(
                open_stream(
                    parsed,
                    credentials=make_credentials(ca_cert_file, cert_file, private_key_file, private_key_password),
                    ssl_context=ssl_context,
                    verify_hostname=verify_hostname,
                    proxy=parse_proxy_url(proxy) if proxy is not None else None,
                    timeout=timeout,
                )
            )
        except TransportError as error:
            raise UnreachableError("", str(error)) from error
        sasl = None
        if mechanisms:
            sasl = SaslClient(
                mechanisms, hostname=parsed.host, encrypted=info.encrypted, allow_insecure_plain=allow_insecure_plain
            )
        adaptor = ClientAdaptor(
            lambda on_touched: Engine(
                container_id or f"van-{secrets.token_hex(8)}",
                accepting=False,
                sasl=sasl,
                hostname=hostname if hostname is not None else parsed.host,
                max_frame_size=MAX_FRAME_SIZE,
                idle_timeout=idle_timeout,
                properties={"product": "van", "version": __version__, **(properties or {})},
                on_touched=on_touched,
                now=trio.current_time(),
            )
        )
        async with _driven(stream, adaptor):
            await _opened(adaptor, parsed, deadline, timeout)
            yield Connection(adaptor, info)


async def _opened(adaptor: ClientAdaptor, url: Url, deadline: float, seconds: float) -> None:
    """Wait until the peer has opened the connection."""
    with trio.move_on_at(deadline):
        await adaptor.opening.wait()
    if not adaptor.opening.is_set():
        raise UnreachableError("", f"{url}: connected, but not open within {seconds:g} s")
    error = adaptor.error
    if error is None:
        return
    if adaptor.opened or isinstance(error, ConnectError):
        raise error.again()
    raise UnreachableError(error.condition, f"{url}: {error.description}")


@asynccontextmanager
async def _driven(stream: trio.abc.Stream, adaptor: ClientAdaptor) -> AsyncIterator[None]:
    """Drive the adaptor while the block runs, then close the connection.

    Out of here comes what the block raised, as it was, without a group around it; only faults of our own make one.
    """
    # The driver goes on while the block is being cancelled, so that the Close gets out.
    driving = trio.CancelScope(shield=True)

    async def drive() -> None:
        with driving:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(adaptor.flush_when_touched)
                await run_adaptor(stream, adaptor, adaptor.wake_touched)
                nursery.cancel_scope.cancel()

    raised: BaseException | None = None
    result: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drive)
            try:
                yield
            except BaseException as error:
                raised = error
                raise
            finally:
                adaptor.close()
                patience = CANCELLED_CLOSE_TIMEOUT if isinstance(raised, trio.Cancelled) else CLOSE_TIMEOUT
                with trio.move_on_after(patience) as scope:
                    scope.shield = isinstance(raised, trio.Cancelled)
                    await adaptor.ended.wait()
                driving.cancel()
    except BaseExceptionGroup as group:
        others = group.split(lambda error: error is raised or isinstance(error, trio.Cancelled))[1]
        result = raised if others is None and raised is not None else group
    if result is not None:
        raise result
