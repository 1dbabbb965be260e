"""`van request` and `van ping`."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.cli.vans import Done, Van, only_json
from van.client import AmqpValue, Message, Properties, connect


@asynccontextmanager
async def echo(url: str, address: str) -> AsyncIterator[None]:
    """Answers requests with their own body."""
    async with connect(url) as connection, trio.open_nursery() as nursery:
        async with connection.receiver(address) as receiver, connection.sender(None) as sender:

            async def serve() -> None:
                async for delivery in receiver:
                    request = delivery.message.properties
                    assert request is not None
                    delivery.accept()
                    if request.reply_to is not None:
                        reply = Properties(to=request.reply_to, correlation_id=request.correlation_id, subject="echo")
                        sender.send_nowait(Message(properties=reply, body=AmqpValue(delivery.body)))

            nursery.start_soon(serve)
            yield
            nursery.cancel_scope.cancel()


async def run(van: Van, *arguments: str, stdin: str = "") -> Done:
    return await trio.to_thread.run_sync(lambda: van(*arguments, stdin=stdin))


async def test_a_request_shows_its_reply(van: Van, address: str) -> None:
    async with echo(van.router.url(), address):
        done = await run(van, "request", address, "one", "two")
        assert (done.returncode, done.stdout, done.stderr) == (0, "one\ntwo\n", "")
        done = await run(van, "request", address, "-o", "json", stdin="from stdin")
        reply = only_json(done)
        assert reply["body"] == "from stdin"
        assert reply["properties"]["subject"] == "echo"


async def test_a_request_that_nobody_answers_exits_75(van: Van, address: str) -> None:
    done = await run(van, "request", address, "x", "--timeout", "0.3")
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr == "van: nobody took the request within 0.3 s\n"


async def test_a_request_that_is_rejected_exits_1(van: Van, address: str) -> None:
    van.start("receive", address, "--answer", "reject")
    done = await run(van, "request", address, "x")
    assert (done.returncode, done.stderr) == (1, "van: rejected\n")


def test_ping_without_an_address_measures_the_way_to_the_router(van: Van) -> None:
    done = van("ping", "--count", "3", "--interval", "0")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.rpartition(" ")[0].rpartition(" ")[0] for line in lines[:3]] == ["scene: 1:", "scene: 2:", "scene: 3:"]
    assert lines[3].startswith("3 sent, 3 answered; round trip min/median/max ")


def test_ping_an_address_reaches_whoever_receives_there(van: Van, address: str) -> None:
    receiver = van.start("receive", address, "-o", "json")
    done = van("ping", address, "--count", "2", "--interval", "0", "--size", "10", "-o", "json")
    result = only_json(done)
    assert (result["address"], result["sent"], result["answered"], result["accepted"]) == (address, 2, 2, 2)
    assert 0 < result["min_ms"] <= result["median_ms"] <= result["max_ms"]
    message = json.loads(receiver.line())
    assert (message["properties"]["subject"], message["body"]) == ("van.ping", "p" * 10)


async def test_ping_takes_answers_and_does_not_need_them(van: Van, address: str) -> None:
    async with echo(van.router.url(), address):
        done = await run(van, "ping", address, "--count", "2", "--interval", "0.1", "-o", "json")
        assert (done.returncode, only_json(done)["accepted"]) == (0, 2)


def test_ping_where_nobody_receives_exits_75(van: Van, address: str) -> None:
    done = van("ping", address, "--timeout", "0.3")
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr == f"van: no credit for {address} within 0.3 s: nobody receives there\n"


def test_ping_that_is_rejected_was_answered_and_exits_1(van: Van, address: str) -> None:
    van.start("receive", address, "--answer", "reject")
    done = van("ping", address, "--count", "1", "-o", "json")
    assert (done.returncode, done.stderr) == (1, "van: rejected\n")
    assert (only_json(done)["answered"], only_json(done)["accepted"]) == (1, 0)


def test_ping_without_an_answer_exits_75(van: Van, address: str) -> None:
    receiver = van.start("receive", address)
    assert van("send", address, "warm up").returncode == 0
    receiver.signal(signal.SIGSTOP)
    done = van("ping", address, "--count", "1", "--timeout", "0.4")
    receiver.signal(signal.SIGCONT)
    assert done.returncode == 75
    assert done.stdout == f"{address}: 1: no answer within 0.4 s\n1 sent, 0 answered\n"


def test_a_ping_without_end_sums_up_when_it_is_stopped(van: Van) -> None:
    program = van.start("ping", "--count", "0", "--interval", "0.05")
    assert program.line().startswith("scene: 1: ")
    program.signal(signal.SIGINT)
    lines = program.output(status=130)
    assert "answered; round trip" in lines[-1]
    assert program.errors == []
