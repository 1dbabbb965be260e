"""Send ourselves one message of `size` octets through an address and compare."""

from options import OPTIONS, connect, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

PATTERN = bytes(range(256)) + b"van"


class Large(MessagingHandler):
    def on_start(self, event):
        connection = connect(event.container)
        size = OPTIONS["size"]
        self.body = (PATTERN * (size // len(PATTERN) + 1))[:size]
        event.container.create_receiver(connection, OPTIONS["address"])
        event.container.create_sender(connection, OPTIONS["address"])

    def on_sendable(self, event):
        event.sender.send(Message(body=self.body, inferred=True))
        event.sender.close()

    def on_message(self, event):
        body = bytes(event.message.body)
        say(len(body), "the same" if body == self.body else "different")
        event.connection.close()


Container(Large()).run()
