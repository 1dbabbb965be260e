"""`van send`: messages to an address, and what became of each."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterator

from van.cli.errors import UsageError, complain
from van.cli.output import json_line, write
from van.cli.session import Patience
from van.client import ClientError, Connection, Message, Outcome, OutcomeState, Sender, Tracker
from van.router import exit_codes

PIPELINE = 500
"""Messages under way at a time: twice the credit that routers give."""

SHOWN_OUTCOMES = 10
"""So many different reasons are shown; a test with a million rejections does not fill the terminal."""


class Tally:
    """What became of the messages so far."""

    def __init__(self) -> None:
        self.states: Counter[OutcomeState] = Counter()
        self.reasons: Counter[str] = Counter()

    def add(self, outcome: Outcome, explained: bool = False) -> None:
        """Count one outcome; what is `explained` elsewhere is no reason to be shown."""
        self.states[outcome.state] += 1
        if not explained and not outcome.accepted and outcome.state is not OutcomeState.SETTLED:
            self.reasons[str(outcome)] += 1

    def as_json(self) -> dict[str, int]:
        """The object that `-o json` shows."""
        counts = {state.name.lower(): self.states[state] for state in OutcomeState if state is not OutcomeState.SETTLED}
        return {"sent": self.states.total(), **counts}

    def complain(self) -> None:
        """Say on stderr why messages were not accepted."""
        for reason, count in self.reasons.most_common(SHOWN_OUTCOMES):
            complain(f"{reason} ({count} messages)" if count > 1 else reason)
        if len(self.reasons) > SHOWN_OUTCOMES:
            complain(f"and {len(self.reasons) - SHOWN_OUTCOMES} more reasons")


async def send(
    connection: Connection,
    address: str,
    messages: Iterator[Message],
    *,
    presettled: bool,
    patience: Patience,
    as_json: bool,
) -> int:
    """Send all messages; the patience is for credit and for outcomes, each time anew. Returns the exit code."""
    tally = Tally()
    pending: deque[Tracker] = deque()
    error: ClientError | None = None
    credit = False
    try:
        with patience.scope:
            async with connection.sender(address, settled=presettled, max_pending=PIPELINE) as sender:
                await sender.wait_for_credit()
                credit = True
                await _pump(sender, messages, pending, tally, patience)
    except ClientError as raised:
        error = raised
    for tracker in pending:
        # Those without an outcome have not been sent.
        if tracker.outcome_now is not None:
            tally.add(tracker.outcome_now, patience.exhausted)
    if as_json:
        await write(json_line(tally.as_json()))
    tally.complain()
    if error is not None:
        raise error
    if patience.exhausted:
        what = f"no outcome from {address}" if credit else f"no credit for {address}: nobody receives there"
        complain(f"{what} within {patience.seconds:g} s")
        return exit_codes.TIMED_OUT
    return exit_codes.FAILURE if tally.reasons else exit_codes.OK


async def _pump(
    sender: Sender, messages: Iterator[Message], pending: deque[Tracker], tally: Tally, patience: Patience
) -> None:
    for message in messages:
        pending.append(await sender.submit(message))
        patience.renew()
        while pending and (len(pending) >= PIPELINE or pending[0].outcome_now is not None):
            tally.add(await pending[0].wait())
            pending.popleft()
            patience.renew()
    while pending:
        tally.add(await pending[0].wait())
        pending.popleft()
        patience.renew()


def wants_stdin(bodies: tuple[str, ...], size: int | None, count: int | None) -> bool:
    """Whether the body comes from stdin although nobody said so. Raises `UsageError` where that is a terminal."""
    if bodies or size is not None or count is not None:
        return False
    if sys.stdin.isatty():
        raise UsageError("no body: give one, or - to type it, or --count or --size")
    return True
