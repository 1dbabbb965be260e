"""Attach a receiver with a selector, print what of it the other side's Attach says, and its Open."""

from options import OPTIONS, connect, say
from proton.handlers import MessagingHandler
from proton.reactor import Container, Selector


class Attach(MessagingHandler):
    def on_start(self, event):
        event.container.create_receiver(
            connect(event.container), OPTIONS["address"], options=Selector("colour = 'green'")
        )

    def on_link_opened(self, event):
        source = event.receiver.remote_source
        source.filter.rewind()
        say("address", source.address)
        say("filter", source.filter.get_object() if source.filter.next() else None)
        say("container", event.connection.remote_container)
        event.connection.close()


Container(Attach()).run()
