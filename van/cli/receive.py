"""`van receive`: messages from an address to stdout."""

from __future__ import annotations

from typing import Literal, TypeAlias

from van.amqp.errors import ErrorCondition
from van.cli.errors import complain
from van.cli.output import line_of, write
from van.cli.session import Patience
from van.client import Connection, Delivery, MalformedMessageError, Receiver
from van.router import exit_codes

WINDOW = 100
"""Deliveries that the router may send ahead of what we have written."""

BATCH = 100
"""Deliveries that are written together when they are here anyway: a write is a thread's work."""

Answer: TypeAlias = Literal["accept", "reject", "release"]


async def receive(
    connection: Connection,
    address: str,
    *,
    count: int | None,
    answer: Answer,
    presettled: bool,
    patience: Patience,
    as_json: bool,
) -> int:
    """Receive `count` messages, or without end; the patience is for silence. Returns the exit code.

    Credit is never given for more than is wanted, so that nothing is taken away from others.
    """
    received = 0
    with patience.scope:
        async with connection.receiver(address, credit=0, settled=presettled) as receiver:
            patience.renew()
            granted = _grant(receiver, WINDOW, count)
            while count is None or received < count:
                batch = [await receiver.receive(), *_more(receiver)]
                patience.renew()
                granted += _grant(receiver, len(batch), None if count is None else count - granted)
                received += await _show(address, batch, answer, as_json)
                patience.renew()
    if patience.exhausted and (count is not None or not received):
        complain(f"nothing from {address} within {patience.seconds:g} s")
        return exit_codes.TIMED_OUT
    return exit_codes.OK


def _grant(receiver: Receiver, credit: int, at_most: int | None) -> int:
    if at_most is not None:
        credit = min(credit, at_most)
    if credit > 0:
        receiver.grant(credit)
    return max(0, credit)


def _more(receiver: Receiver) -> list[Delivery]:
    """What has arrived and can be written along."""
    return [receiver.receive_nowait() for _ in range(min(receiver.queued, BATCH))]


async def _show(address: str, batch: list[Delivery], answer: Answer, as_json: bool) -> int:
    """Write deliveries, and then settle them: whoever reads our output has them. Returns how many."""
    lines = []
    shown = []
    for delivery in batch:
        try:
            lines.append(line_of(address, delivery, as_json))
            shown.append(delivery)
        except MalformedMessageError as error:
            complain(f"not a message, rejected: {error.description}")
            delivery.reject(ErrorCondition.DECODE_ERROR, error.description)
    if lines:
        await write(b"".join(lines))
    for delivery in shown:
        if answer == "accept":
            delivery.accept()
        elif answer == "reject":
            delivery.reject()
        else:
            delivery.release()
    return len(batch)
