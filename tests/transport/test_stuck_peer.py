"""A peer that takes no octets is waited for as long as its protocol waits, and no longer."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.transport.authority import Authority
from tests.transport.echo import EchoAdaptor
from tests.transport.scenes import Stage, serving, until
from van.transport.dial import open_stream
from van.transport.tls import TlsCredentials

# More than the sockets of both sides take.
PLENTY = bytes(32 * 1024 * 1024)
schemes = pytest.mark.parametrize("scheme", ["amqp", "amqps", "ws"])


async def stuck(stage: Stage, stream: trio.abc.Stream, give_up: float = 10.0) -> EchoAdaptor:
    """The listener's side of a connection whose peer has asked for plenty, and takes nothing of it."""
    await stream.send_all(b"!open")
    await until(lambda: any(adaptor.opened for adaptor in stage.endpoints.made))
    (adaptor,) = stage.endpoints.made
    adaptor.give_up = give_up
    adaptor.say(PLENTY)
    adaptor.on_wake()
    await trio.testing.wait_all_tasks_blocked(0.01)
    return adaptor


def credentials_of(scheme: str, authority: Authority) -> TlsCredentials | None:
    return authority.credentials() if scheme == "amqps" else None


@schemes
async def test_given_up_for_its_silence(
    scheme: str, authority: Authority, mock_clock: trio.testing.MockClock
) -> None:
    credentials = credentials_of(scheme, authority)
    async with (
        serving(scheme, credentials=credentials) as stage,
        open_stream(stage.url, credentials=credentials) as (stream, _),
    ):
        adaptor = await stuck(stage, stream)
        mock_clock.jump(9.9)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not adaptor.lost
        mock_clock.jump(0.1)
        with trio.fail_after(60):
            await until(lambda: adaptor.lost == 1)
        assert adaptor.reason == "given up"


@schemes
async def test_one_that_is_heard_is_waited_for(
    scheme: str, authority: Authority, mock_clock: trio.testing.MockClock
) -> None:
    credentials = credentials_of(scheme, authority)
    async with (
        serving(scheme, credentials=credentials) as stage,
        open_stream(stage.url, credentials=credentials) as (stream, _),
    ):
        adaptor = await stuck(stage, stream)
        mock_clock.jump(9.0)
        adaptor.give_up = 19.0
        await stream.send_all(b"!quiet")
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(9.9)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not adaptor.lost


@pytest.mark.parametrize("give_up", [10.0, float("inf")])
async def test_an_adaptor_that_has_closed_waits_a_little(
    give_up: float, mock_clock: trio.testing.MockClock
) -> None:
    async with serving() as stage, open_stream(stage.url) as (stream, _):
        adaptor = await stuck(stage, stream, give_up)
        adaptor.give_up = float("inf")
        adaptor.close("amqp:connection:forced", "")
        adaptor.on_wake()
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(4.9)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not adaptor.lost
        mock_clock.jump(0.1)
        with trio.fail_after(60):
            await until(lambda: adaptor.lost == 1)
