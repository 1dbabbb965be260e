"""Send from every router to every router (itself too) until each message was accepted: who reaches whom, and when.

`routers` maps names to URLs. On each there is a receiver of its own address. What is released or modified is sent
again after a moment, and clients reconnect. Prints a line of JSON: seconds since our start for each pair, sorted by
time; when `seconds` are over also the pairs that are missing, with the last outcome, and ends with status 1.
"""

import json
import sys
import time

from options import OPTIONS, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

START = time.monotonic()
AGAIN = 0.02
RECONNECT = [0.02] * 5000


class Pairs(MessagingHandler):
    def __init__(self):
        super().__init__()
        self.names = list(OPTIONS["routers"])
        self.missing = {(one, other): "no credit" for one in self.names for other in self.names}
        self.reached = []
        self.senders = {}
        self.in_flight = {}

    def on_start(self, event):
        self.container = event.container
        for name, url in OPTIONS["routers"].items():
            connection = self.container.connect(url, reconnect=RECONNECT)
            self.container.create_receiver(connection, f"{OPTIONS['address']}.{name}", name=f"receiver-{name}")
            for other in self.names:
                link = f"{name}>{other}"
                self.senders[link] = (name, other)
                self.container.create_sender(connection, f"{OPTIONS['address']}.{other}", name=link)
        self.container.schedule(OPTIONS.get("seconds", 60), self)

    def on_sendable(self, event):
        self.send(event.sender)

    def send(self, sender):
        pair = self.senders[sender.name]
        if pair in self.missing and sender.name not in self.in_flight and sender.credit:
            self.in_flight[sender.name] = True
            self.missing[pair] = "no outcome"
            sender.send(Message(body=sender.name))

    def on_accepted(self, event):
        pair = self.senders[event.sender.name]
        self.in_flight.pop(event.sender.name, None)
        if self.missing.pop(pair, None) is not None:
            self.reached.append([*pair, round(time.monotonic() - START, 3)])
        if not self.missing:
            say(json.dumps(self.reached))
            self.container.stop()

    def on_released(self, event):
        pair = self.senders[event.sender.name]
        if pair in self.missing:
            self.missing[pair] = str(event.delivery.remote_state)
        self.container.schedule(AGAIN, Later(self, event.sender))

    on_modified = on_released
    on_rejected = on_released

    def on_disconnected(self, event):
        for name in list(self.in_flight):
            del self.in_flight[name]

    def on_timer_task(self, event):
        say(json.dumps(self.reached))
        say(json.dumps([[*pair, why] for pair, why in self.missing.items()]))
        sys.exit(1)

    def on_transport_error(self, event):
        pass


class Later:
    def __init__(self, pairs, sender):
        self.pairs = pairs
        self.sender = sender

    def on_timer_task(self, event):
        self.pairs.in_flight.pop(self.sender.name, None)
        self.pairs.send(self.sender)


Container(Pairs()).run()
