"""Give credit for 10 and drain it, over and over until `count` messages have come; what is unused comes back."""

from options import OPTIONS, connect, say
from proton.handlers import MessagingHandler
from proton.reactor import Container


class Drain(MessagingHandler):
    def __init__(self):
        super().__init__(prefetch=0)
        self.received = 0

    def on_start(self, event):
        event.container.create_receiver(connect(event.container), OPTIONS["address"])

    def on_link_opened(self, event):
        say("ready")
        self.receiver = event.receiver
        self.receiver.drain(10)

    def on_message(self, event):
        say(event.message.body)
        self.received += 1

    def on_link_flow(self, event):
        if event.receiver.drained():
            say("drained, credit", event.receiver.credit)
            if self.received == OPTIONS["count"]:
                event.connection.close()
            else:
                event.container.schedule(0.02, self)

    def on_timer_task(self, event):
        self.receiver.drain(10)


Container(Drain()).run()
