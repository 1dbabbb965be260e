"""Send `count` pre-settled messages as fast as credit allows, and close the connection behind the last at once."""

from options import OPTIONS, connect
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import AtMostOnce, Container


class Burst(MessagingHandler):
    def on_start(self, event):
        self.sent = 0
        event.container.create_sender(connect(event.container), OPTIONS["address"], options=AtMostOnce())

    def on_sendable(self, event):
        while event.sender.credit and self.sent < OPTIONS["count"]:
            event.sender.send(Message(body=str(self.sent)))
            self.sent += 1
        if self.sent == OPTIONS["count"]:
            event.connection.close()


Container(Burst()).run()
