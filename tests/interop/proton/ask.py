"""Send `count` requests to `address`, one after the other, with a dynamic reply address; print what came back."""

from options import OPTIONS, connect, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container


class Ask(MessagingHandler):
    def __init__(self):
        super().__init__()
        self.number = 0
        self.reply_to = None

    def on_start(self, event):
        connection = connect(event.container)
        self.sender = event.container.create_sender(connection, OPTIONS["address"])
        self.receiver = event.container.create_receiver(connection, None, dynamic=True)

    def on_link_opened(self, event):
        if event.link == self.receiver:
            self.reply_to = event.receiver.remote_source.address
            say("reply to", self.reply_to)
            self.ask()

    def on_sendable(self, event):
        if self.number == 0:
            self.ask()

    def ask(self):
        if self.reply_to and self.sender.credit:
            self.number += 1
            request = Message(reply_to=self.reply_to, correlation_id=self.number, body=f"request {self.number}")
            self.sender.send(request)

    def on_released(self, event):
        say("request released")
        event.connection.close()

    on_rejected = on_released

    def on_message(self, event):
        assert event.message.correlation_id == self.number
        say(event.message.body)
        if self.number == OPTIONS["count"]:
            event.connection.close()
        else:
            self.ask()


Container(Ask()).run()
