"""Send one message of each of `sizes` octets from the router at `url` to a receiver at that of `other`; compare."""

from options import OPTIONS, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

PATTERN = bytes(range(256)) + b"van"


class Across(MessagingHandler):
    def __init__(self):
        super().__init__()
        self.sent = 0
        self.came = 0
        self.accepted = 0

    def on_start(self, event):
        self.sizes = OPTIONS["sizes"]
        self.container = event.container
        self.from_here = event.container.connect(OPTIONS["url"], reconnect=False)
        self.to_there = event.container.connect(OPTIONS["other"], reconnect=False)
        event.container.create_receiver(self.to_there, OPTIONS["address"])
        event.container.create_sender(self.from_here, OPTIONS["address"])

    def body(self, size):
        return (PATTERN * (size // len(PATTERN) + 1))[:size]

    def on_sendable(self, event):
        if self.sent == self.accepted and self.sent < len(self.sizes) and event.sender.credit:
            event.sender.send(Message(body=self.body(self.sizes[self.sent]), inferred=True))
            self.sent += 1

    def on_message(self, event):
        body = bytes(event.message.body)
        say(len(body), "the same" if body == self.body(self.sizes[self.came]) else "different")
        self.came += 1

    def on_accepted(self, event):
        self.accepted += 1
        self.on_sendable(event)
        if self.accepted == len(self.sizes):
            self.from_here.close()
            self.to_there.close()

    def on_released(self, event):
        say("released or modified")
        self.from_here.close()
        self.to_there.close()

    on_rejected = on_released


Container(Across()).run()
