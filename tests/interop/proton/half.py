"""Send the first half of a message and stop. On SIGUSR1 close the `end` (link or connection), in order."""

import signal

from options import OPTIONS, connect, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import ApplicationEvent, Container, EventInjector


class Half(MessagingHandler):
    def on_start(self, event):
        self.sender = event.container.create_sender(connect(event.container), OPTIONS["address"])
        self.injector = EventInjector()
        event.container.selectable(self.injector)
        signal.signal(signal.SIGUSR1, lambda *_: self.injector.trigger(ApplicationEvent("told_to_end")))

    def on_sendable(self, event):
        if not self.sender.current:
            self.sender.delivery("half")
            encoded = Message(body=b"x" * OPTIONS["size"], inferred=True).encode()
            self.sender.stream(encoded[: OPTIONS["size"] // 2])

    def on_told_to_end(self, event):
        self.injector.close()
        (self.sender if OPTIONS["end"] == "link" else self.sender.connection).close()

    def on_link_closed(self, event):
        say("link closed")
        event.connection.close()

    def on_connection_closed(self, event):
        say("connection closed")


Container(Half()).run()
