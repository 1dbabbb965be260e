"""Answer `count` requests on `address`: to their reply-to, over an anonymous sender, with the body in capitals."""

from options import OPTIONS, connect, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container


class Serve(MessagingHandler):
    def __init__(self):
        super().__init__()
        self.left = OPTIONS["count"]

    def on_start(self, event):
        connection = connect(event.container)
        self.sender = event.container.create_sender(connection, None)
        event.container.create_receiver(connection, OPTIONS["address"])

    def on_link_opened(self, event):
        if event.link.is_receiver:
            say("ready")

    def on_message(self, event):
        request = event.message
        self.sender.send(
            Message(address=request.reply_to, correlation_id=request.correlation_id, body=request.body.upper())
        )

    def on_accepted(self, event):
        self.left -= 1
        if not self.left:
            event.connection.close()

    def on_released(self, event):
        say("answer", event.delivery.remote_state)
        self.on_accepted(event)

    on_rejected = on_released


Container(Serve()).run()
