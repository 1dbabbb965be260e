"""Send `count` messages at `url` to receivers of the same address at all of `receivers`; print who got how many.

With `probe` we first send probes until every receiver has had one, so that all routers know of all receivers. A message
is accepted `hold` seconds after it came; `every` is the time between two messages. What is released is sent again.
Prints a line of JSON: how many came to each receiver, how many came to one receiver twice, the outcomes.
"""

import collections
import json
import sys
import time

from options import OPTIONS, say
from proton import Delivery, Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

EVERY = OPTIONS.get("every", 0.005)
PROBE_EVERY = 0.01
QUIET = 1.0
PATIENCE = OPTIONS.get("seconds", 30)
START = time.monotonic()


class Spread(MessagingHandler):
    def __init__(self):
        super().__init__(prefetch=250, auto_accept=False)
        self.names = {}
        self.probing = OPTIONS.get("probe", False)
        self.probed = set()
        self.unsettled = {}
        self.again = collections.deque()
        self.next = 0
        self.came = {name: collections.Counter() for name in OPTIONS["receivers"]}
        self.outcomes = collections.Counter()
        self.last = START

    def on_start(self, event):
        self.container = event.container
        self.connections = []
        for name, url in OPTIONS["receivers"].items():
            self.connections.append(event.container.connect(url, reconnect=False))
            receiver = event.container.create_receiver(self.connections[-1], OPTIONS["address"], name=name)
            self.names[receiver] = name
        self.connections.append(event.container.connect(OPTIONS["url"], reconnect=False))
        self.sender = event.container.create_sender(self.connections[-1], OPTIONS["address"])
        event.container.schedule(PROBE_EVERY, self)

    def on_timer_task(self, event):
        now = time.monotonic()
        if self.probing:
            if self.sender.credit > 0:
                self.sender.send(Message(body=-1))
                self.last = now
            if len(self.probed) == len(self.names):
                self.probing = False
        elif (self.again or self.next < OPTIONS["count"]) and self.sender.credit > 0:
            if self.again:
                number = self.again.popleft()
            else:
                number, self.next = self.next, self.next + 1
            self.unsettled[self.sender.send(Message(body=number)).tag] = number
            self.last = now
        done = not self.probing and not self.again and self.next == OPTIONS["count"] and not self.unsettled
        if (done and now > self.last + QUIET) or now > START + PATIENCE:
            self.end(done)
        else:
            self.container.schedule(PROBE_EVERY if self.probing else EVERY, self)

    def on_message(self, event):
        self.last = time.monotonic()
        name = event.receiver.name
        if event.message.body == -1:
            self.probed.add(name)
        else:
            self.came[name][event.message.body] += 1
        if OPTIONS.get("hold"):
            self.container.schedule(OPTIONS["hold"], Accept(event.delivery))
        else:
            Accept(event.delivery).on_timer_task(event)

    def on_accepted(self, event):
        if self.unsettled.pop(event.delivery.tag, None) is not None:
            self.outcomes["accepted"] += 1
            self.last = time.monotonic()

    def on_released(self, event):
        number = self.unsettled.pop(event.delivery.tag, None)
        if number is not None:
            self.outcomes[str(event.delivery.remote_state)] += 1
            self.again.append(number)

    on_rejected = on_released

    def end(self, done):
        result = {
            "came": {name: sum(numbers.values()) for name, numbers in self.came.items()},
            "twice": sum(count > 1 for numbers in self.came.values() for count in numbers.values()),
            "outcomes": dict(self.outcomes),
        }
        if not done:
            result |= {"probed": sorted(self.probed), "unsettled": len(self.unsettled), "credit": self.sender.credit}
        say(json.dumps(result))
        for connection in self.connections:
            connection.close()
        if not done:
            sys.exit(1)


class Accept:
    def __init__(self, delivery):
        self.delivery = delivery

    def on_timer_task(self, event):
        self.delivery.update(Delivery.ACCEPTED)
        self.delivery.settle()


Container(Spread()).run()
