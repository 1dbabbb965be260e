"""Send `bodies`, each once there is credit; print the outcome of each.

`mode`: unsettled (the default), settled (at most once), second (exactly once: we settle what is accepted). After the
last outcome it stays for `linger` seconds: Proton closes without having written what waits for the peer's window.
"""

from options import OPTIONS, connect, say
from proton import Delivery, Link, Message
from proton.handlers import MessagingHandler
from proton.reactor import Container, SenderOption

OUTCOMES = {
    Delivery.ACCEPTED: "accepted",
    Delivery.REJECTED: "rejected",
    Delivery.RELEASED: "released",
    Delivery.MODIFIED: "modified",
}


class Mode(SenderOption):
    def apply(self, sender):
        settled = OPTIONS.get("mode") == "settled"
        sender.snd_settle_mode = Link.SND_SETTLED if settled else Link.SND_UNSETTLED
        sender.rcv_settle_mode = Link.RCV_SECOND if OPTIONS.get("mode") == "second" else Link.RCV_FIRST


class Send(MessagingHandler):
    def __init__(self):
        super().__init__(auto_settle=False)
        self.bodies = list(OPTIONS["bodies"])
        self.unsettled = {}

    def on_start(self, event):
        event.container.create_sender(connect(event.container), OPTIONS["address"], options=Mode())

    def on_sendable(self, event):
        while self.bodies and event.sender.credit:
            body = self.bodies.pop(0)
            delivery = event.sender.send(Message(body=body, durable=True))
            if OPTIONS.get("mode") == "settled":
                say(body, "sent settled")
            else:
                self.unsettled[delivery.tag] = body
        self.close_when_done(event)

    def on_delivery(self, event):
        delivery = event.delivery
        if not event.link.is_sender or not delivery.updated or delivery.tag not in self.unsettled:
            return
        remote = delivery.remote
        words = [OUTCOMES[delivery.remote_state]]
        if delivery.remote_state == Delivery.REJECTED and remote.condition:
            words += [remote.condition.name, remote.condition.description]
        if delivery.remote_state == Delivery.MODIFIED:
            words += ["failed"] if remote.failed else []
        words.append("settled" if delivery.settled else "unsettled")
        say(self.unsettled.pop(delivery.tag), *words)
        delivery.settle()
        self.close_when_done(event)

    def close_when_done(self, event):
        if not self.bodies and not self.unsettled:
            if OPTIONS.get("linger"):
                event.container.schedule(OPTIONS["linger"], Close(event.connection))
            else:
                event.connection.close()

    def on_link_error(self, event):
        say("link error", event.link.remote_condition.name)
        event.connection.close()


class Close:
    def __init__(self, connection):
        self.connection = connection

    def on_timer_task(self, event):
        self.connection.close()


Container(Send()).run()
