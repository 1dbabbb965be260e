"""Ask the `$management` of several routers for `type`, again and again, until each has all of `rows`.

`routers` maps names to URLs. A wanted row is a map of attributes and values; a value `{"least": n}` wants n or more,
`{"not": v}` anything but v. Prints a line of JSON for each router as it complies: its name, seconds since our start,
the rows. When `seconds` are over it prints what the others have, and ends with status 1.
"""

import json
import sys
import time

from options import OPTIONS, say
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

START = time.monotonic()
EVERY = 0.05


def matches(want, row):
    for key, value in want.items():
        has = row.get(key)
        if isinstance(value, dict):
            if "least" in value and not (isinstance(has, (int, float)) and has >= value["least"]):
                return False
            if "not" in value and has == value["not"]:
                return False
        elif has != value:
            return False
    return True


class Asking:
    """One router."""

    def __init__(self, name, url):
        self.name = name
        self.url = url
        self.rows = []
        self.sender = None
        self.reply_to = None
        self.asked = False
        self.error = ""

    def complies(self):
        return all(any(matches(want, row) for row in self.rows) for want in OPTIONS["rows"])


class Manage(MessagingHandler):
    def __init__(self):
        super().__init__(prefetch=2)
        self.left = [Asking(name, url) for name, url in OPTIONS["routers"].items()]
        self.by_connection = {}

    def on_start(self, event):
        self.container = event.container
        for asking in self.left:
            connection = self.container.connect(asking.url, reconnect=[0.05] * 2000)
            self.by_connection[connection] = asking
            self.container.create_receiver(connection, None, dynamic=True)
            asking.sender = self.container.create_sender(connection, "$management")
        self.container.schedule(OPTIONS.get("seconds", 20), self)

    def on_link_opened(self, event):
        if event.link.is_receiver:
            asking = self.by_connection[event.connection]
            asking.reply_to = event.link.remote_source.address
            asking.asked = False
            self.ask(asking)

    def on_sendable(self, event):
        asking = self.by_connection[event.connection]
        if not asking.asked:
            self.ask(asking)

    def ask(self, asking):
        if asking not in self.left or not asking.sender.credit or not asking.reply_to:
            return
        asking.asked = True
        properties = {"operation": "QUERY", "entityType": OPTIONS["type"], "type": "org.amqp.management"}
        body = {"attributeNames": OPTIONS.get("attributes", [])}
        asking.sender.send(Message(properties=properties, reply_to=asking.reply_to, correlation_id=1, body=body))

    def on_message(self, event):
        asking = self.by_connection[event.connection]
        message = event.message
        status = (message.properties or {}).get("statusCode")
        if status == 200:
            names = message.body["attributeNames"]
            asking.rows = [dict(zip(names, values, strict=True)) for values in message.body["results"]]
            if asking in self.left and asking.complies():
                say(json.dumps([asking.name, round(time.monotonic() - START, 3), asking.rows], default=str))
                self.left.remove(asking)
                event.connection.close()
                if not self.left:
                    self.container.stop()
                return
        else:
            asking.error = f"{status} {(message.properties or {}).get('statusDescription')}"
        self.container.schedule(EVERY, Later(self, asking))

    def on_timer_task(self, event):
        for asking in self.left:
            say(json.dumps([asking.name, None, asking.rows or asking.error], default=str))
        sys.exit(1)

    def on_transport_error(self, event):
        pass


class Later:
    def __init__(self, manage, asking):
        self.manage = manage
        self.asking = asking

    def on_timer_task(self, event):
        self.manage.ask(self.asking)


Container(Manage()).run()
