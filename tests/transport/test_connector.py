"""Connectors: at once, then with growing pauses, for ever; the state tells what is going on, the log says it once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from tests.transport.authority import Authority
from tests.transport.echo import EchoAdaptor, Endpoints
from tests.transport.logbook import Logbook
from tests.transport.scenes import Stage, serving, until
from van.transport.backoff import Backoff
from van.transport.connector import Connector
from van.transport.info import ConnectionInfo
from van.transport.tls import ClientCertificates, TlsCredentials
from van.transport.url import Url, parse_url

Clock = trio.testing.MockClock


class Calling(Endpoints):
    """The endpoints of a connector: each says `!open` by itself, and is open when the other side answers."""

    greeting = b"!open"

    def __call__(self, info: ConnectionInfo) -> EchoAdaptor:
        adaptor = super().__call__(info)
        adaptor.say(self.greeting)
        return adaptor


class Caller:
    """A connector that runs, its endpoints and its log."""

    def __init__(self, *urls: Url, endpoints: Endpoints | None = None, **options: Any) -> None:
        self.endpoints = endpoints or Calling()
        self.logbook = Logbook()
        self.connector = Connector(
            urls,
            self.endpoints,
            self.endpoints.wake_touched,
            self.logbook.logger,
            backoff=Backoff(lambda: 1.0, initial=1.0, cap=8.0),
            **options,
        )

    async def status(self, wanted: str) -> None:
        await until(lambda: self.connector.status == wanted)

    async def attempts(self, count: int) -> None:
        """Until that many attempts have failed and the next one is waited for."""
        await until(lambda: self.connector.attempts == count and self.connector.status == "FAILED")
        await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def calling(*urls: Url, **options: Any) -> AsyncIterator[Caller]:
    caller = Caller(*urls, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.connector.run)
        yield caller
        nursery.cancel_scope.cancel()


async def nobody() -> Url:
    """A URL where nobody listens."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    return parse_url(f"amqp://127.0.0.1:{port}")


async def test_the_first_attempt_is_made_at_once_and_the_pauses_grow(mock_clock: Clock) -> None:
    async with calling(await nobody()) as caller:
        for attempt, pause in enumerate((1, 2, 4, 8, 8), start=1):
            await caller.attempts(attempt)
            mock_clock.jump(pause - 0.01)
            await trio.testing.wait_all_tasks_blocked()
            assert caller.connector.attempts == attempt
            mock_clock.jump(0.01)
        await caller.attempts(6)


async def test_why_is_said_once_and_then_counted(mock_clock: Clock) -> None:
    url = await nobody()
    async with calling(url) as caller:
        for attempt in range(1, 12):
            await caller.attempts(attempt)
            mock_clock.jump(8)
        await caller.attempts(12)
        reason = f"{url}: cannot connect to {url.host_and_port}: connection refused"
        assert caller.connector.message == reason
        lines = caller.logbook.lines
        assert [line["event"] for line in lines] == ["cannot connect", "cannot connect"]
        assert [line["attempts"] for line in lines] == [1, 10]
        assert lines[0]["reason"] == reason


async def test_a_new_reason_is_said_again(mock_clock: Clock, authority: Authority) -> None:
    url = replace(await nobody(), scheme="amqps", host="localhost")
    credentials = authority.credentials("server", "elsewhere.example")
    async with calling(url, credentials=TlsCredentials(authority.trust_only())) as caller:
        await caller.attempts(1)
        async with serving("amqps", credentials=credentials) as stage:
            caller.connector.urls = [stage.url]
            mock_clock.jump(1)
            await caller.attempts(2)
        assert "connection refused" in caller.logbook.lines[0]["reason"]
        assert "certificate is not valid for 'localhost'" in caller.logbook.lines[1]["reason"]
        assert str(stage.url) in caller.logbook.lines[1]["reason"]


async def test_connected_lost_and_connected_again(mock_clock: Clock) -> None:
    async with serving() as stage, calling(stage.url) as caller:
        await caller.status("SUCCESS")
        assert caller.connector.attempts == 0
        assert caller.connector.message == f"connected to {stage.url}"
        assert caller.logbook.only("connected")["attempts"] == 1
        mock_clock.jump(60)
        stage.endpoints.made[0].close("amqp:connection:forced", "restart")
        stage.endpoints.made[0].on_wake()
        await caller.status("FAILED")
        await trio.testing.wait_all_tasks_blocked()
        assert caller.logbook.only("connection lost")["reason"] == f"{stage.url}: the connection was closed"
        mock_clock.jump(1)
        await caller.status("SUCCESS")
        assert caller.endpoints.made[0].lost == 1
        assert len(caller.endpoints.made) == 2


async def flaps(caller: Caller, stage: Stage, times: int, seconds_open: float, clock: Clock) -> list[float]:
    """Have the peer end the connection so often, each time after being open so long; returns the pauses after."""
    pauses = []
    for _ in range(times):
        await caller.status("SUCCESS")
        clock.jump(seconds_open)
        stage.endpoints.made[-1].close("amqp:connection:forced", "go away")
        stage.endpoints.made[-1].on_wake()
        await caller.status("FAILED")
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        while caller.connector.status != "SUCCESS" and trio.current_time() < began + 20:
            clock.jump(0.5)
            await trio.testing.wait_all_tasks_blocked(0.01)
        pauses.append(trio.current_time() - began)
    return pauses


async def test_the_pauses_begin_again_when_a_connection_was_open_for_a_while(mock_clock: Clock) -> None:
    async with serving() as stage, calling(stage.url) as caller:
        assert await flaps(caller, stage, 3, 5, mock_clock) == [1, 1, 1]


async def test_a_peer_that_takes_us_and_sends_us_away_at_once_is_called_less_and_less(mock_clock: Clock) -> None:
    async with serving() as stage, calling(stage.url) as caller:
        assert await flaps(caller, stage, 3, 0, mock_clock) == [1, 2, 4]


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_peer_that_is_the_wrong_one_is_asked_seldom_and_told_of_once(mock_clock: Clock, at_once: bool) -> None:
    class Choosy(Calling):
        def __call__(self, info: ConnectionInfo) -> EchoAdaptor:
            adaptor = super().__call__(info)
            adaptor.reason = "the wrong one"
            adaptor.refusal = adaptor.reason if at_once else ""
            return adaptor

    async with serving() as stage, calling(stage.url, endpoints=Choosy()) as caller:
        for attempt in range(1, 4):
            await until(lambda: bool(stage.endpoints.made))
            if not at_once:
                await caller.status("SUCCESS")
                caller.endpoints.made[-1].refusal = "the wrong one"
            assert caller.connector.status != "SUCCESS"
            stage.endpoints.made[0].close("amqp:connection:forced", "")
            stage.endpoints.made[0].on_wake()
            await caller.attempts(attempt)
            mock_clock.jump(7.99)
            await trio.testing.wait_all_tasks_blocked()
            assert caller.connector.attempts == attempt
            stage.endpoints.made.clear()
            mock_clock.jump(0.01)
        assert str(caller.logbook.only("cannot connect")["reason"]).endswith("the wrong one")


async def test_a_tcp_connection_alone_resets_nothing(mock_clock: Clock) -> None:
    mute = Calling()
    mute.greeting = b"!quiet"
    async with serving() as stage, calling(stage.url, endpoints=mute) as caller:
        for attempt, pause in enumerate((1, 2, 4), start=1):
            await until(lambda attempt=attempt: len(stage.endpoints.made) == attempt)  # type: ignore[misc]
            await trio.testing.wait_all_tasks_blocked()
            stage.endpoints.made[-1].close("x", "not you")
            stage.endpoints.made[-1].on_wake()
            await caller.attempts(attempt)
            mock_clock.jump(pause)
        assert caller.connector.message == f"{stage.url}: the peer closed the connection before it was open"


async def test_whoever_does_not_open_in_time_is_left(mock_clock: Clock) -> None:
    mute = Calling()
    mute.greeting = b"!quiet"
    async with (
        serving(initial_handshake_timeout_seconds=0) as stage,
        calling(stage.url, endpoints=mute, initial_handshake_timeout_seconds=7) as caller,
    ):
        await until(lambda: bool(stage.endpoints.made))
        await trio.testing.wait_all_tasks_blocked()
        assert caller.connector.status == "CONNECTING"
        mock_clock.jump(7)
        await caller.attempts(1)
        assert caller.connector.message == f"{stage.url}: connected, but not open within 7 s"
        assert mute.made[0].lost == 1


async def test_connecting_itself_has_a_time_limit(mock_clock: Clock, authority: Authority) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = parse_url(f"amqps://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    credentials = TlsCredentials(authority.trust_only())
    async with calling(url, credentials=credentials, connect_timeout=3) as caller:
        mute = await listeners[0].accept()
        await mute.receive_some()
        mock_clock.jump(3)
        await caller.attempts(1)
        assert caller.connector.message == f"{url}: not connected within 3 s: still at the TLS handshake"
    await mute.aclose()
    await listeners[0].aclose()


async def test_failover_goes_down_the_list_and_starts_again_at_its_top(mock_clock: Clock) -> None:
    wanted = await nobody()
    async with serving() as spare, calling(wanted, spare.url) as caller:
        await caller.status("SUCCESS")
        assert caller.connector.url == spare.url
        assert caller.logbook.only("cannot connect")["url"] == str(wanted)
        async with serving(port=wanted.port) as back:
            mock_clock.jump(10)
            spare.endpoints.made[0].close("x", "y")
            spare.endpoints.made[0].on_wake()
            await caller.status("FAILED")
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(1)
            await caller.status("SUCCESS")
            assert caller.connector.url == wanted
            assert len(back.endpoints.made) == 1


async def test_a_server_that_wants_a_certificate_of_ours_says_so(mock_clock: Clock, authority: Authority) -> None:
    tls: dict[str, Any] = {"credentials": authority.credentials(), "client_certificates": ClientCertificates.REQUIRED}
    credentials = TlsCredentials(authority.trust_only())
    async with serving("amqps", **tls) as stage, calling(stage.url, credentials=credentials) as caller:
        await caller.attempts(1)
        assert caller.connector.message == f"{stage.url}: the peer wants a certificate from us, and we sent none"


async def test_a_crash_is_logged_and_does_not_end_the_connector(mock_clock: Clock) -> None:
    async with serving() as stage, calling(stage.url) as caller:
        await caller.status("SUCCESS")
        mock_clock.jump(5)
        stage.endpoints.made[0].say(b"!crash")
        stage.endpoints.made[0].on_wake()
        await caller.status("FAILED")
        await trio.testing.wait_all_tasks_blocked()
        line = caller.logbook.only("connection failed, a fault of ours")
        assert isinstance(line["exc_info"], RuntimeError)
        assert caller.connector.message == "RuntimeError: planted fault"
        mock_clock.jump(1)
        await caller.status("SUCCESS")


async def test_without_the_guard_a_crash_is_seen(mock_clock: Clock) -> None:
    async with serving() as stage:
        caller = Caller(stage.url, guarded=False)
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - all of it is ended by the crash
            async with trio.open_nursery() as nursery:
                nursery.start_soon(caller.connector.run)
                await caller.status("SUCCESS")
                stage.endpoints.made[0].say(b"!crash")
                stage.endpoints.made[0].on_wake()
        assert caught.group_contains(RuntimeError, match="planted fault")


async def test_stopping_ends_the_connection_in_an_orderly_way(mock_clock: Clock) -> None:
    async with serving() as stage:
        caller = Caller(stage.url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.connector.run)
            await caller.status("SUCCESS")
            caller.connector.stop("amqp:connection:forced", "shutting down")
        assert caller.logbook.only("connection lost")["reason"] == "shutting down"
        assert caller.endpoints.made[0].lost == 1


async def test_stopping_between_attempts_is_at_once(mock_clock: Clock) -> None:
    caller = Caller(await nobody())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.connector.run)
        await caller.attempts(1)
        caller.connector.stop("amqp:connection:forced", "shutting down")
    assert trio.current_time() == 0


def test_no_url_is_a_mistake(logbook: Logbook) -> None:
    endpoints = Endpoints()
    with pytest.raises(ValueError, match="at least one URL"):
        Connector([], endpoints, endpoints.wake_touched, logbook.logger)
