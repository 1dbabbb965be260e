"""Receive for ever, whatever happens to the connection; say when another 500 different messages have come."""

from options import OPTIONS, connect, say
from proton.handlers import MessagingHandler
from proton.reactor import Container


class SteadyReceive(MessagingHandler):
    def __init__(self):
        super().__init__(prefetch=100)
        self.came = set()

    def on_start(self, event):
        event.container.create_receiver(connect(event.container), OPTIONS["address"])

    def on_message(self, event):
        number = event.message.body
        if number not in self.came:
            self.came.add(number)
            if len(self.came) % 500 == 0:
                say(len(self.came))


Container(SteadyReceive()).run()
