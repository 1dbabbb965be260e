"""Say hello to ourselves through an address, or why we could not."""

from options import OPTIONS, connect, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container


class Hello(MessagingHandler):
    def on_start(self, event):
        connection = connect(event.container)
        event.container.create_receiver(connection, OPTIONS["address"])
        event.container.create_sender(connection, OPTIONS["address"])

    def on_sendable(self, event):
        event.sender.send(Message(body="Hello"))
        event.sender.close()

    def on_message(self, event):
        transport = event.transport
        say(event.message.body, transport.sasl().mech, transport.ssl() is not None and transport.ssl().protocol_name())
        event.connection.close()

    def on_transport_error(self, event):
        say("transport error", event.transport.condition.name)

    def on_connection_error(self, event):
        say("connection error", event.connection.remote_condition.name)


Container(Hello()).run()
