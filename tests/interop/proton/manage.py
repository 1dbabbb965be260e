"""Send requests to `address`, one after the other, and print the answers: status and body as JSON."""

import json

from options import OPTIONS, say
from proton import Message
from proton.utils import BlockingConnection, SyncRequestResponse


def plain(value):
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


connection = BlockingConnection(OPTIONS["url"], timeout=20)
client = SyncRequestResponse(connection, OPTIONS["address"])
for request in OPTIONS["requests"]:
    reply = client.call(Message(properties=request["properties"], body=request.get("body", {})))
    say(json.dumps([reply.properties["statusCode"], reply.properties["statusDescription"], plain(reply.body)]))
connection.close()
