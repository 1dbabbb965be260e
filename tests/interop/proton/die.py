"""Receive one message and die without settling it."""

import os

from options import OPTIONS, connect, say
from proton.handlers import MessagingHandler
from proton.reactor import Container


class Die(MessagingHandler):
    def __init__(self):
        super().__init__(prefetch=1, auto_accept=False)

    def on_start(self, event):
        event.container.create_receiver(connect(event.container), OPTIONS["address"])

    def on_link_opened(self, event):
        say("ready")

    def on_message(self, event):
        say(event.message.body)
        os._exit(0)


Container(Die()).run()
