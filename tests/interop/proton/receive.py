"""Receive `count` messages, each with what `outcomes` says for its body; print body and settlement as they come.

`mode` is how we settle: first or second (exactly-once: accept, then wait for the sender to settle).
"""

from options import OPTIONS, connect, say
from proton import Delivery, Link
from proton.handlers import MessagingHandler
from proton.reactor import Container, ReceiverOption


class Mode(ReceiverOption):
    def apply(self, receiver):
        receiver.rcv_settle_mode = Link.RCV_SECOND if OPTIONS.get("mode") == "second" else Link.RCV_FIRST


class Receive(MessagingHandler):
    def __init__(self):
        super().__init__(prefetch=OPTIONS.get("credit", 10), auto_accept=False)
        self.waiting_for = OPTIONS["count"]

    def on_start(self, event):
        event.container.create_receiver(connect(event.container), OPTIONS["address"], options=Mode())

    def on_link_opened(self, event):
        say("ready")

    def on_message(self, event):
        body, delivery = event.message.body, event.delivery
        say("message", body, "settled" if delivery.settled else "unsettled")
        outcome = OPTIONS.get("outcomes", {}).get(body, "accepted")
        if outcome == "failed":
            delivery.local.failed = True
        if outcome == "rejected":
            delivery.local.condition = self.condition()
        states = {"accepted": Delivery.ACCEPTED, "rejected": Delivery.REJECTED, "released": Delivery.RELEASED}
        delivery.update(states.get(outcome, Delivery.MODIFIED))
        if OPTIONS.get("mode") != "second" or delivery.settled:
            delivery.settle()
            self.done(event)

    def condition(self):
        from proton import Condition

        return Condition("test:no-thanks", "the receiver does not want it")

    def on_settled(self, event):
        if event.link.is_receiver:
            say("sender settled")
            event.delivery.settle()
            self.done(event)

    def done(self, event):
        self.waiting_for -= 1
        if not self.waiting_for:
            event.connection.close()


Container(Receive()).run()
