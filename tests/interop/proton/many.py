"""Open `links` senders and receivers on one connection, each pair with its own address; count what comes."""

from options import OPTIONS, connect, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container


class Many(MessagingHandler):
    def on_start(self, event):
        self.came = set()
        self.sent = set()
        connection = connect(event.container)
        for number in range(OPTIONS["links"]):
            address = f"{OPTIONS['address']}/{number}"
            event.container.create_receiver(connection, address)
            event.container.create_sender(connection, address)

    def on_sendable(self, event):
        if event.sender.name not in self.sent:
            self.sent.add(event.sender.name)
            event.sender.send(Message(body=event.sender.target.address))

    def on_message(self, event):
        if event.message.body == event.receiver.source.address:
            self.came.add(event.message.body)
        if len(self.came) == OPTIONS["links"]:
            say(len(self.came), "of", OPTIONS["links"])
            event.connection.close()


Container(Many()).run()
