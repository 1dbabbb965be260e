"""`van ping`: round trips through the network.

Without an address the messages go to one that the router makes up for us, and come back to where they began: the way to
the router and back. With an address the time is that until the outcome is here. Outcomes come from who receives there,
the whole way back through every router, so it takes no program there that answers; and an outcome other than accepted
is an answer, too. Receivers get a message with the subject `van.ping`; they may answer it, and need not.
"""

from __future__ import annotations

import statistics
import time

import trio

from van.amqp.types import ULong
from van.cli.errors import StoppedError, complain
from van.cli.output import json_line, write
from van.client import AmqpValue, Connection, Data, Message, Properties, Receiver, Sender
from van.router import exit_codes

SUBJECT = "van.ping"

SUMMARY_TIMEOUT = 1.0
"""Seconds for the last line to be taken by who reads our output."""


class Pings:
    """How a series of pings went; times in milliseconds."""

    def __init__(self) -> None:
        self.sent = 0
        self.accepted = 0
        self.times: list[float] = []

    def summary(self) -> str:
        """The last line for people."""
        text = f"{self.sent} sent, {len(self.times)} answered"
        if self.times:
            low, middle, high = min(self.times), statistics.median(self.times), max(self.times)
            text += f"; round trip min/median/max {low:.3f}/{middle:.3f}/{high:.3f} ms"
        return text

    def as_json(self, address: str | None) -> dict[str, object]:
        """The object that `-o json` shows; None where there is no figure."""
        times = self.times
        return {
            "address": address,
            "sent": self.sent,
            "answered": len(times),
            "accepted": self.accepted,
            "min_ms": round(min(times), 3) if times else None,
            "median_ms": round(statistics.median(times), 3) if times else None,
            "max_ms": round(max(times), 3) if times else None,
        }


async def ping(
    connection: Connection,
    address: str | None,
    *,
    count: int,
    size: int | None,
    interval: float,
    seconds: float,
    as_json: bool,
) -> int:
    """Send pings, `interval` seconds apart, and wait `seconds` for each; 0 for `count` stands for no end."""
    pings = Pings()
    body = AmqpValue("ping") if size is None else Data(b"p" * size)
    async with connection.receiver(None, dynamic=True) as replies:
        whereto = replies.address if address is None else address
        async with connection.sender(whereto) as sender:
            with trio.move_on_after(seconds):
                await sender.wait_for_credit()
            if not sender.credit:
                raise StoppedError(
                    exit_codes.TIMED_OUT, f"no credit for {whereto} within {seconds:g} s: nobody receives there"
                )
            name = (connection.remote_container_id or "the router") if address is None else address
            try:
                while not count or pings.sent < count:
                    if pings.sent:
                        await trio.sleep(interval)
                    pings.sent += 1
                    message = Message(
                        properties=Properties(
                            message_id=ULong(pings.sent), to=whereto, subject=SUBJECT, reply_to=replies.address
                        ),
                        body=body,
                    )
                    words = await _once(sender, replies, message, address is None, seconds, pings)
                    if not as_json:
                        await write(f"{name}: {pings.sent}: {words}\n".encode())
            finally:
                if as_json:
                    summary = json_line(pings.as_json(address))
                else:
                    summary = f"{pings.summary()}\n".encode()
                with trio.move_on_after(SUMMARY_TIMEOUT, shield=True):
                    # Also when Ctrl-C ends it: that is how one stops a ping without end.
                    await write(summary)
    if len(pings.times) < pings.sent:
        return exit_codes.TIMED_OUT
    return exit_codes.OK if pings.accepted == pings.sent else exit_codes.FAILURE


async def _once(
    sender: Sender, replies: Receiver, message: Message, to_ourselves: bool, seconds: float, pings: Pings
) -> str:
    """One round trip. Returns in words how it went."""
    outcome = None
    begin = time.perf_counter()
    end = begin
    with trio.move_on_after(seconds):
        if to_ourselves:
            tracker = sender.send_nowait(message)
            await _come_back(replies, message)
            end = time.perf_counter()
            outcome = await tracker.wait()
        else:
            outcome = await sender.send(message)
            end = time.perf_counter()
    _take_all(replies)
    if outcome is None:
        return f"no answer within {seconds:g} s"
    milliseconds = (end - begin) * 1000
    pings.times.append(milliseconds)
    pings.accepted += outcome.accepted
    if outcome.accepted:
        return f"{milliseconds:.3f} ms"
    complain(str(outcome))
    return f"{milliseconds:.3f} ms, {outcome.state.value}"


async def _come_back(replies: Receiver, message: Message) -> None:
    """Wait until this very message is here; others are late ones."""
    while True:
        delivery = await replies.receive()
        delivery.accept()
        if delivery.message.properties == message.properties:
            return


def _take_all(replies: Receiver) -> None:
    """Whoever answers shall not think that nobody listens."""
    while replies.queued:
        replies.receive_nowait().accept()
