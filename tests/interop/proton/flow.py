"""Send `rate` messages a second at `url` to a receiver at `other`, through whatever happens between the two routers.

Prints "flowing" when the first hundred have come; `seconds` later it stops sending, waits for what is under way, and
prints a line of JSON: what was sent, outcomes, how many came once and more than once, and the largest gaps between
arrivals with the time after "flowing" at which each began. What is released or modified is sent again.
"""

import collections
import json
import time

from options import OPTIONS, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

EVERY = 0.01
QUIET = 3.0


class Flow(MessagingHandler):
    def __init__(self):
        super().__init__(prefetch=250)
        self.again = collections.deque()
        self.next = 1
        self.unsettled = {}
        self.outcomes = collections.Counter()
        self.came = collections.Counter()
        self.returned = set()
        self.unexplained = 0
        self.gaps = []
        self.last = None
        self.flowing = None
        self.stopped = False
        self.due = 0.0

    def on_start(self, event):
        self.container = event.container
        self.connections = [event.container.connect(url, reconnect=False) for url in (OPTIONS["other"], OPTIONS["url"])]
        event.container.create_receiver(self.connections[0], OPTIONS["address"])
        self.sender = event.container.create_sender(self.connections[1], OPTIONS["address"])
        self.before = time.monotonic()
        event.container.schedule(EVERY, self)

    def on_timer_task(self, event):
        now = time.monotonic()
        if not self.stopped:
            self.due = min(self.due + (now - self.before) * OPTIONS["rate"], OPTIONS["rate"])
            self.stopped = self.flowing is not None and now > self.flowing + OPTIONS["seconds"]
            if self.stopped:
                self.stopped_at = now
        self.before = now
        while self.sender.credit > 0 and (self.again or (self.due >= 1 and not self.stopped)):
            if self.again:
                number = self.again.popleft()
            else:
                self.due -= 1
                number, self.next = self.next, self.next + 1
            self.unsettled[self.sender.send(Message(body=number)).tag] = number
        if self.stopped and ((not self.unsettled and not self.again) or now > self.stopped_at + 20):
            if now > max(self.stopped_at, self.last) + QUIET or now > self.stopped_at + 20:
                self.end()
                return
        self.container.schedule(EVERY, self)

    def on_message(self, event):
        now = time.monotonic()
        number = event.message.body
        self.came[number] += 1
        if self.came[number] > 1 and number not in self.returned:
            self.unexplained += 1
        if self.flowing is not None and not self.stopped:
            self.gaps.append((now - self.last, self.last - self.flowing))
            if len(self.gaps) > 1000:
                self.gaps = sorted(self.gaps, reverse=True)[:5]
        self.last = now
        if self.flowing is None and len(self.came) == 100:
            self.flowing = now
            say("flowing")

    def on_accepted(self, event):
        self.unsettled.pop(event.delivery.tag, None)
        self.outcomes["accepted"] += 1

    def on_released(self, event):
        number = self.unsettled.pop(event.delivery.tag, None)
        self.outcomes[str(event.delivery.remote_state)] += 1
        if number is not None:
            self.returned.add(number)
            self.again.append(number)

    on_modified = on_released
    on_rejected = on_released

    def end(self):
        result = {
            "sent": self.next - 1,
            "outcomes": dict(self.outcomes),
            "without outcome": len(self.unsettled),
            "came": len(self.came),
            "twice": sum(count > 1 for count in self.came.values()),
            "twice without being told to send again": self.unexplained,
            "gaps": [[round(gap, 3), round(at, 3)] for gap, at in sorted(self.gaps, reverse=True)[:5]],
        }
        say(json.dumps(result))
        for connection in self.connections:
            connection.close()


Container(Flow()).run()
