"""Send 1 to `count` until each is accepted, whatever happens to the connection; print how many were."""

import collections

from options import OPTIONS, connect, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container


class SteadySend(MessagingHandler):
    def __init__(self):
        super().__init__()
        self.waiting = collections.deque(range(1, OPTIONS["count"] + 1))
        self.unsettled = {}
        self.accepted = 0

    def on_start(self, event):
        event.container.create_sender(connect(event.container), OPTIONS["address"])

    def on_sendable(self, event):
        while event.sender.credit and self.waiting:
            number = self.waiting.popleft()
            self.unsettled[event.sender.send(Message(body=number)).tag] = number

    def on_accepted(self, event):
        # Proton sends what it had not written yet over the next connection, beside what is sent again below.
        if self.unsettled.pop(event.delivery.tag, None) is None:
            return
        self.accepted += 1
        if self.accepted == OPTIONS["count"]:
            say("accepted", self.accepted)
            event.connection.close()

    def on_rejected(self, event):
        number = self.unsettled.pop(event.delivery.tag, None)
        if number is not None:
            self.waiting.appendleft(number)
        self.on_sendable(event)

    on_released = on_rejected

    def on_disconnected(self, event):
        """What was unsettled is in doubt: send it again."""
        self.waiting.extendleft(sorted(self.unsettled.values(), reverse=True))
        self.unsettled.clear()


Container(SteadySend()).run()
