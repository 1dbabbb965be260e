"""Receive until `count` messages are complete; print when the first part of one comes, and when one is aborted."""

from options import OPTIONS, connect, say
from proton.handlers import MessagingHandler
from proton.reactor import Container


class Watch(MessagingHandler):
    def __init__(self):
        super().__init__()
        self.partly = set()
        self.received = 0

    def on_start(self, event):
        event.container.create_receiver(connect(event.container), OPTIONS["address"])

    def on_link_opened(self, event):
        say("ready")

    def on_delivery(self, event):
        delivery = event.delivery
        if delivery.readable and delivery.partial and delivery.tag not in self.partly:
            self.partly.add(delivery.tag)
            say("partly here")

    def on_aborted(self, event):
        say("aborted")

    def on_message(self, event):
        body = event.message.body
        say("message", body if isinstance(body, str) else len(body))
        self.received += 1
        if self.received == OPTIONS["count"]:
            event.connection.close()


Container(Watch()).run()
