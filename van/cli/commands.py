"""The command line: which commands there are, and which options each has. The work is done in their own modules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from van.cli.errors import UsageError, complain
from van.cli.messages import STDIN, make_messages, read_bodies
from van.cli.options import (
    DEFAULT_TIMEOUT,
    NO_CONNECTION_OPTIONS,
    NO_MESSAGE_OPTIONS,
    ConnectionOptions,
    Flag,
    MessageOptions,
    OutputFormat,
)
from van.cli.ping import ping as ping_address
from van.cli.receive import Answer
from van.cli.receive import receive as receive_messages
from van.cli.request import request as request_replies
from van.cli.send import send as send_messages
from van.cli.send import wants_stdin
from van.cli.services import add as add_service
from van.cli.services import remove as remove_service
from van.cli.services import service_url
from van.cli.session import Patience, connected, limit, run_command
from van.cli.status import View
from van.cli.status import status as show_status
from van.router import exit_codes

EPILOGUE = """\
Exit codes: 0 ok, 1 failure (a message was not accepted), 2 usage, 69 router unreachable, 75 timed out, \
77 not permitted, 78 bad configuration. The router is $VAN_URL, else amqp://127.0.0.1:5672; --url names another.
"""

Output = Annotated[OutputFormat, Parameter(name=("--output", "-o"))]
Bodies = Annotated[tuple[str, ...], Parameter(show_default=False)]

app = App(
    name="van",
    help="Talk to the addresses of a virtual application network, and run its routers.",
    help_epilogue=EPILOGUE,
    help_format="plaintext",
    version_flags=[],
)


@app.command
def router(site_file: str | None = None, /, *, check: Flag = False) -> int:
    """Run a router; without SITE_FILE a standalone one on amqp://127.0.0.1:5672.

    Parameters
    ----------
    check
        Only validate the configuration: every error with its line; exit code 0 or 78.
    """
    from van.router.__main__ import main as run_router

    return run_router([*([site_file] if site_file is not None else []), *(["--check"] if check else [])])


@app.command
def send(
    address: str,
    body: Bodies = (),
    /,
    *,
    count: int | None = None,
    size: int | None = None,
    presettled: Flag = False,
    timeout: float = DEFAULT_TIMEOUT,
    output: Output = "text",
    message: MessageOptions = NO_MESSAGE_OPTIONS,
    connection: ConnectionOptions = NO_CONNECTION_OPTIONS,
) -> int:
    """Send messages to ADDRESS and wait for what becomes of each. Without BODY the body is read from stdin.

    Parameters
    ----------
    address
        Where to.
    body
        One message each, a text; - stands for stdin.
    count
        How many messages; the bodies are taken in turn, without one they are numbers. 0: without end.
    size
        Bodies of so many octets.
    presettled
        At most once: do not wait for outcomes.
    timeout
        Seconds to wait for the connection, for credit, and for each outcome; 0: for ever.
    output
        json: one object that counts sent, accepted, rejected, released, modified and in_doubt.
    """

    async def command() -> int:
        seconds = limit(timeout)
        assert seconds is not None
        wants_stdin(body, size, count)
        messages = make_messages(await read_bodies(body, size, count), count, message)
        async with connected(connection, seconds) as opened:
            return await send_messages(
                opened,
                address,
                messages,
                presettled=presettled,
                patience=Patience(seconds),
                as_json=output == "json",
            )

    return run_command(command)


@app.command
def receive(
    address: str,
    /,
    *,
    count: int | None = None,
    answer: Answer = "accept",
    presettled: Flag = False,
    timeout: float | None = None,
    output: Output = "text",
    connection: ConnectionOptions = NO_CONNECTION_OPTIONS,
) -> int:
    """Receive messages from ADDRESS and write their bodies to stdout, one a line.

    Parameters
    ----------
    address
        Where from.
    count
        End after so many.
    answer
        What their senders are told.
    presettled
        Ask for messages that need no answer: at most once.
    timeout
        End after so many seconds in which nothing comes; 0: never. By default 10 with --count, else never.
    output
        json: one object a line with address, properties, application_properties and body.
    """

    async def command() -> int:
        if count is not None and count < 1:
            raise UsageError("--count has to be at least 1")
        seconds = limit(timeout)
        async with connected(connection, seconds) as opened:
            if seconds is None:
                seconds = DEFAULT_TIMEOUT if count is not None else math.inf
            return await receive_messages(
                opened,
                address,
                count=count,
                answer=answer,
                presettled=presettled,
                patience=Patience(seconds),
                as_json=output == "json",
            )

    return run_command(command)


@app.command
def request(
    address: str,
    body: Bodies = (),
    /,
    *,
    count: int | None = None,
    size: int | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    output: Output = "text",
    message: MessageOptions = NO_MESSAGE_OPTIONS,
    connection: ConnectionOptions = NO_CONNECTION_OPTIONS,
) -> int:
    """Send requests to ADDRESS and write the replies to stdout. Without BODY the body is read from stdin.

    Parameters
    ----------
    address
        Whom to ask.
    body
        One request each, a text; - stands for stdin. The next is sent when the reply is here.
    count
        How many requests; the bodies are taken in turn, without one they are numbers. 0: without end.
    size
        Bodies of so many octets.
    timeout
        Seconds to wait for the connection, and for each reply; 0: for ever.
    output
        json: one object a line with address, properties, application_properties and body of the reply.
    """

    async def command() -> int:
        seconds = limit(timeout)
        assert seconds is not None
        wants_stdin(body, size, count)
        messages = make_messages(await read_bodies(body, size, count), count, message)
        async with connected(connection, seconds) as opened:
            return await request_replies(opened, address, messages, seconds=seconds, as_json=output == "json")

    return run_command(command)


@app.command
def ping(
    address: str | None = None,
    /,
    *,
    count: int = 4,
    size: int | None = None,
    interval: float = 0.25,
    timeout: float = DEFAULT_TIMEOUT,
    output: Output = "text",
    connection: ConnectionOptions = NO_CONNECTION_OPTIONS,
) -> int:
    """Measure round trips: to the router and back, or with ADDRESS to whoever receives there.

    Receivers get a message with the subject van.ping. The time is that until its outcome is back; they need not answer.

    Parameters
    ----------
    address
        Whom to reach; without it, the router.
    count
        How many; 0: until stopped.
    size
        Bodies of so many octets.
    interval
        Seconds between two.
    timeout
        Seconds to wait for the connection, for credit, and for each outcome; 0: for ever.
    output
        json: one object with sent, answered, accepted, min_ms, median_ms and max_ms.
    """

    async def command() -> int:
        if count < 0 or interval < 0 or (size is not None and size < 0):
            raise UsageError("--count, --interval and --size cannot be negative")
        seconds = limit(timeout)
        assert seconds is not None
        async with connected(connection, seconds) as opened:
            return await ping_address(
                opened,
                address,
                count=count,
                size=size,
                interval=interval,
                seconds=seconds,
                as_json=output == "json",
            )

    return run_command(command)


@app.command
def status(
    view: View = "general",
    /,
    *,
    router: str | None = None,
    edge_router: str | None = None,
    watch: Flag = False,
    interval: float = 2.0,
    timeout: float = DEFAULT_TIMEOUT,
    output: Output = "text",
    connection: ConnectionOptions = NO_CONNECTION_OPTIONS,
) -> int:
    """Show what a router says about itself.

    Parameters
    ----------
    view
        What to show.
    router
        Ask this router of the network, by its id, through the one that we connect to.
    edge_router
        The same for an edge router.
    watch
        Again and again, until stopped.
    interval
        Seconds between two.
    timeout
        Seconds to wait for the connection, and for each answer; 0: for ever.
    output
        json: one line with all attributes of the entities, as the router names them.
    """

    async def command() -> int:
        if router is not None and edge_router is not None:
            raise UsageError("--router or --edge-router, not both")
        if interval <= 0:
            raise UsageError("--interval has to be more than 0")
        seconds = limit(timeout)
        assert seconds is not None
        async with connected(connection, seconds) as opened:
            return await show_status(
                opened,
                view,
                router=router,
                edge_router=edge_router,
                seconds=seconds,
                as_json=output == "json",
                interval=interval if watch else None,
            )

    return run_command(command)


Settings = Annotated[
    tuple[str, ...], Parameter(name=("--set", "-s"), negative=(), show_default=False, metavar="KEY=VALUE")
]


@app.command
def expose(
    address: str,
    url: str | None = None,
    /,
    *,
    name: str | None = None,
    settings: Settings = (),
    remove: Flag = False,
    timeout: float = DEFAULT_TIMEOUT,
    output: Output = "text",
    connection: ConnectionOptions = NO_CONNECTION_OPTIONS,
) -> int:
    """Put a server behind ADDRESS: the router connects to URL, such as tcp://10.0.0.7:5432, for its clients.

    It lasts as long as the router runs; what is to stay is written into the site file. Only programs of the router's
    machine and users who have authenticated may do this.

    Parameters
    ----------
    address
        What clients will use.
    url
        Where the server is, as the router sees it.
    name
        Name in logs and management.
    settings
        Any key of [[service]], as idle_timeout_seconds=60.
    remove
        Remove it instead; URL may be left out where there is only one.
    timeout
        Seconds to wait for the connection, and for each answer; 0: for ever.
    output
        json: one line with all attributes of the service.
    """
    return _change_services("connect", address, url, name, settings, remove, timeout, output, connection)


@app.command
def bind(
    address: str,
    url: str | None = None,
    /,
    *,
    name: str | None = None,
    settings: Settings = (),
    remove: Flag = False,
    timeout: float = DEFAULT_TIMEOUT,
    output: Output = "text",
    connection: ConnectionOptions = NO_CONNECTION_OPTIONS,
) -> int:
    """Open a port that leads to ADDRESS: the router listens at URL, such as tcp://127.0.0.1:5432, for clients.

    It lasts as long as the router runs; what is to stay is written into the site file. Only programs of the router's
    machine and users who have authenticated may do this.

    Parameters
    ----------
    address
        Where clients are led to.
    url
        Where to listen; port 0: any that is free.
    name
        Name in logs and management.
    settings
        Any key of [[service]], as always_open=true.
    remove
        Remove it instead; URL may be left out where there is only one.
    timeout
        Seconds to wait for the connection, and for each answer; 0: for ever.
    output
        json: one line with all attributes of the service.
    """
    return _change_services("listen", address, url, name, settings, remove, timeout, output, connection)


def _change_services(
    end: str,
    address: str,
    url: str | None,
    name: str | None,
    settings: tuple[str, ...],
    remove: bool,
    timeout: float,
    output: OutputFormat,
    connection: ConnectionOptions,
) -> int:
    async def command() -> int:
        seconds = limit(timeout)
        assert seconds is not None
        if remove and (name is not None or settings):
            raise UsageError("--remove goes with no other setting")
        if not remove and url is None:
            raise UsageError("URL is missing")
        if url is not None:
            service_url(end, url)
        async with connected(connection, seconds) as opened:
            if remove:
                return await remove_service(opened, end, address, url, seconds=seconds)
            assert url is not None
            return await add_service(
                opened,
                end,
                address,
                url,
                name=name,
                settings=settings,
                seconds=seconds,
                as_json=output == "json",
            )

    return run_command(command)


def run(arguments: Sequence[str]) -> int:
    """Parse the command line and run the command. Returns the exit code."""
    behind = arguments.index("--") if "--" in arguments else len(arguments)
    given = [STDIN if word == "-" and place < behind else word for place, word in enumerate(arguments)]
    try:
        result = app(given, result_action="return_value", print_error=False, exit_on_error=False)
    except CycloptsError as error:
        complain(str(error))
        return exit_codes.USAGE
    except BrokenPipeError:
        complain("stdout was closed")
        return exit_codes.FAILURE
    return result if isinstance(result, int) else exit_codes.OK
