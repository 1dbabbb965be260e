"""How a service that is new learns of the messages that were retained before it began: it asks another one.

It asks at an address that all services of the network receive from, once it can be reached; the one that is closest
sends all that it has to the address that the question names, and then settles the question. Until that, or until it is
clear that nobody answers, the new one takes no questions itself. What it hears meanwhile is newer than what it is sent.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from van.adaptors.mqtt.message import MqttMessage, amqp_message, not_a_message, rejection
from van.adaptors.mqtt.publisher import LinkArrival, Publication, StreamArrival
from van.adaptors.mqtt.retained import MAX_RETAINED, Retained
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Accepted, Rejected
from van.amqp.errors import DecodeError, ErrorCondition
from van.amqp.message import Message, Properties
from van.routing.endpoint import EndpointReceiverLink, EndpointSenderLink

if TYPE_CHECKING:
    from van.adaptors.mqtt.service import MqttService

# A service that begins waits so long for another one to be there, in seconds: a network needs some to get together.
JOIN_SECONDS: Final = 10.0
# ...and so long for the answer.
ANSWER_SECONDS: Final = 60.0
# Who was asked and is gone may still be known here for a moment: the next question comes so much later, in seconds.
AGAIN_SECONDS: Final = 1.0
# Answers that are given at a time; who asks beyond that is told so, and does without.
MAX_ANSWERS: Final = 4
# Messages of an answer that the asker may have before it has looked.
ANSWER_CAPACITY: Final = 100


class _Answer:
    """An answer that is being given: what is left of it, and how much has no outcome yet."""

    __slots__ = ("arrival", "messages", "outstanding", "to")

    def __init__(self, arrival: LinkArrival | StreamArrival, to: str, messages: list[Retained]) -> None:
        self.arrival = arrival
        self.to = to
        self.messages = deque(messages)
        self.outstanding = 0


class Snapshots:
    """Questions and answers of one service. `asking` until it takes questions itself."""

    __slots__ = (
        "_again_at",
        "_answers",
        "_ask",
        "_give",
        "_heard",
        "_of",
        "_question",
        "_take",
        "_until",
        "asking",
        "service",
    )

    def __init__(self, service: MqttService) -> None:
        self.service = service
        self.asking = True
        self._ask: EndpointReceiverLink | None = service.session.attach_incoming(service.addresses.snapshot, 1)
        self._question: Delivery | None = None
        # By which the answer comes, and by which questions do.
        self._take: EndpointSenderLink | None = None
        self._give: EndpointSenderLink | None = None
        # Topics of which something was heard since it began.
        self._heard: set[str] = set()
        # The time is not known before it is handed over.
        self._until = -inf
        # When it may ask again, infinity while that is at any time.
        self._again_at = inf
        self._answers: list[_Answer] = []
        self._of: dict[Publication, _Answer] = {}

    def next_deadline(self) -> float:
        """When `handle_deadline` wants to be called."""
        return min(self._until, self._again_at)

    def handle_deadline(self, now: float) -> None:
        """Begin, or give up to wait."""
        if now >= self._again_at:
            self._again_at = inf
        if not self.asking:
            return
        if self._until == -inf:
            self._until = now + JOIN_SECONDS
        if now >= self._until:
            self._join()
        else:
            self.look()

    def heard(self, topic: str) -> None:
        """A message of this topic is retained, or forgotten: what others knew of it before counts no more."""
        if self.asking and len(self._heard) < MAX_RETAINED:
            self._heard.add(topic)

    def look(self) -> None:
        """Ask if somebody is there to be asked, and go on with answers."""
        ask = self._ask
        may_ask = self._question is None and self._again_at == inf and self._until > -inf
        if ask is not None and may_ask and ask.reachable and ask.link_credit > 0:
            self._take = self.service.session.attach_outgoing("", ANSWER_CAPACITY)
            question = Message(properties=Properties(subject="snapshot", reply_to=self._take.address))
            self._question = ask.send(question.encode())
            self._until = self.service.router.now + ANSWER_SECONDS
        publisher = self.service.publisher
        for answer in list(self._answers):
            while answer.messages and not publisher.busy:
                retained = answer.messages.popleft()
                message = amqp_message(retained.copy(self.service.router.now), self.service.addresses, says_qos=True)
                publication = Publication(message, 1, [answer.to], size=len(retained.message.payload))
                self._of[publication] = answer
                answer.outstanding += 1
                publisher.publish(publication)
            self._settle(answer)

    def told(self, delivery: Delivery) -> bool:
        """Whether this was our question, which has its outcome now."""
        if delivery is not self._question:
            return False
        self._question = None
        if isinstance(delivery.state, (Accepted, Rejected)):
            self._join()
        else:
            # Whoever was asked has gone: the next one, as long as there is time.
            self._drop_answer()
            self._again_at = self.service.router.now + AGAIN_SECONDS
            self._until = self._again_at + JOIN_SECONDS
            self.service.on_deadline()
        return True

    def _join(self) -> None:
        """From now on others may ask here."""
        self.asking = False
        self._until = self._again_at = inf
        self._heard.clear()
        session = self.service.session
        self._question = None
        if self._ask is not None:
            session.detach(self._ask)
            self._ask = None
        self._drop_answer()
        self._give = session.attach_outgoing(self.service.addresses.snapshot, MAX_ANSWERS)

    def _drop_answer(self) -> None:
        if self._take is not None:
            self.service.session.detach(self._take)
            self._take = None

    def takes(self, link: EndpointSenderLink) -> bool:
        """Whether what comes by this link is part of an answer."""
        return link is self._take

    def gives(self, link: EndpointSenderLink) -> bool:
        """Whether what comes by this link is a question."""
        return link is self._give

    def answered(self, message: MqttMessage) -> bool:
        """Whether a message of the answer is news."""
        return self.asking and message.topic not in self._heard and not self.service.retained.has(message.topic)

    def asked(self, payload: bytes, arrival: LinkArrival | StreamArrival) -> None:
        """Somebody asks."""
        try:
            properties = Message.decode(payload).properties
        except DecodeError as error:
            arrival.settle(not_a_message(error.description))
            return
        if properties is None or not properties.reply_to:
            arrival.settle(not_a_message("a question without reply-to"))
        elif len(self._answers) >= MAX_ANSWERS:
            arrival.settle(rejection(ErrorCondition.RESOURCE_LIMIT_EXCEEDED, "others are being answered"))
        else:
            self._answers.append(_Answer(arrival, properties.reply_to, self.service.retained.all()))
            self.look()

    def finished(self, publication: Publication) -> bool:
        """Whether this was part of an answer, which has its outcome now."""
        answer = self._of.pop(publication, None)
        if answer is None:
            return False
        answer.outstanding -= 1
        if not isinstance(publication.state, Accepted):
            # Who asked is gone, or has no room.
            answer.messages.clear()
        self._settle(answer)
        self.service.session.wake()
        return True

    def _settle(self, answer: _Answer) -> None:
        if not answer.messages and not answer.outstanding and answer in self._answers:
            self._answers.remove(answer)
            answer.arrival.settle(ACCEPTED)

    def stop(self) -> None:
        """Give everything up."""
        self.asking = False
        self._until = self._again_at = inf
        for answer in self._answers:
            answer.arrival.settle(RELEASED)
        self._answers.clear()
        self._of.clear()
