"""What became of a message (3.4): the delivery states of the wire as one value for applications."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from van.amqp.delivery_state import Accepted, Modified, Received, Rejected, Released
from van.client._errors import ClientError, NotAcceptedError


class OutcomeState(enum.Enum):
    """The four outcomes of 3.4, and the two that have no disposition."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    RELEASED = "released"
    MODIFIED = "modified"
    SETTLED = "settled"
    """Sent settled: nobody says what became of it."""
    IN_DOUBT = "in doubt"
    """Link or connection ended before the outcome came: it may have been processed, or not."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message.

    `condition` and `description` are those of the error with which it was rejected, or of what ended the connection
    meanwhile (in doubt). The last three are those of a modified outcome (3.4.5).
    """

    state: OutcomeState
    condition: str = ""
    description: str = ""
    delivery_failed: bool = False
    undeliverable_here: bool = False
    message_annotations: dict[str, object] | None = None

    @property
    def accepted(self) -> bool:
        """Whether the receiver took the message."""
        return self.state is OutcomeState.ACCEPTED

    def check(self) -> None:
        """Raise `NotAcceptedError` unless the message was accepted, or sent settled."""
        if self.state is not OutcomeState.ACCEPTED and self.state is not OutcomeState.SETTLED:
            raise NotAcceptedError(self)

    def __str__(self) -> str:
        words = self.state.value
        if self.delivery_failed or self.undeliverable_here:
            marks = {"delivery-failed": self.delivery_failed, "undeliverable-here": self.undeliverable_here}
            words += f" ({', '.join(mark for mark, is_set in marks.items() if is_set)})"
        return ": ".join(filter(None, (words, self.condition, self.description)))


ACCEPTED = Outcome(OutcomeState.ACCEPTED)
RELEASED = Outcome(OutcomeState.RELEASED)
SETTLED = Outcome(OutcomeState.SETTLED)


def in_doubt(error: ClientError) -> Outcome:
    """The outcome of a message whose link, session or connection ended with `error`."""
    return Outcome(OutcomeState.IN_DOUBT, error.condition, error.description)


def from_state(state: object, settled: bool) -> Outcome | None:
    """The outcome that a delivery state of the wire stands for; None where it is not final.

    Settled without a state counts as accepted, as routers take it.
    """
    if isinstance(state, Accepted):
        return ACCEPTED
    if isinstance(state, Released):
        return RELEASED
    if isinstance(state, Rejected):
        error = state.error
        if error is None:
            return Outcome(OutcomeState.REJECTED)
        return Outcome(OutcomeState.REJECTED, str(error.condition), error.description or "")
    if isinstance(state, Modified):
        return Outcome(
            OutcomeState.MODIFIED,
            delivery_failed=bool(state.delivery_failed),
            undeliverable_here=bool(state.undeliverable_here),
            message_annotations=state.message_annotations,
        )
    if not settled:
        return None
    if state is None or isinstance(state, Received):
        return ACCEPTED
    return Outcome(OutcomeState.IN_DOUBT, description=f"settled with an unknown state: {state!r}")
