"""Attach a receiver at `other` and a sender at `url`, as soon as somebody listens there; send until one is accepted.

Prints "waiting" when the sender is attached, and then when it had credit and when a message was accepted, in seconds
of the clock of the day, and how many were released before. With `seconds` over it gives up, and says why.
"""

import sys
import time

from options import OPTIONS, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

RECONNECT = [0.02] * 5000


class First(MessagingHandler):
    def __init__(self):
        super().__init__()
        self.credit = None
        self.released = 0

    def on_start(self, event):
        self.container = event.container
        receiving = event.container.connect(OPTIONS["other"], reconnect=RECONNECT)
        sending = event.container.connect(OPTIONS["url"], reconnect=RECONNECT)
        self.connections = [receiving, sending]
        event.container.create_receiver(receiving, OPTIONS["address"])
        self.sender = event.container.create_sender(sending, OPTIONS["address"])
        event.container.schedule(OPTIONS.get("seconds", 30), self)

    def on_link_opened(self, event):
        if event.link.is_sender:
            say("waiting")

    def on_sendable(self, event):
        if self.credit is None:
            self.credit = time.time()
            event.sender.send(Message(body="x"))

    def on_accepted(self, event):
        say(self.credit, time.time(), self.released)
        for connection in self.connections:
            connection.close()
        self.container.stop()

    def on_released(self, event):
        self.released += 1
        self.container.schedule(0.01, Again(event.sender))

    on_modified = on_released

    def on_timer_task(self, event):
        say("nothing accepted; credit after", self.credit, "released", self.released)
        sys.exit(1)

    def on_transport_error(self, event):
        pass


class Again:
    def __init__(self, sender):
        self.sender = sender

    def on_timer_task(self, event):
        if self.sender.credit:
            self.sender.send(Message(body="x"))
        else:
            event.container.schedule(0.01, self)


Container(First()).run()
