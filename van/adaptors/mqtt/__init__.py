"""MQTT 3.1.1 and 5: clients of either meet one another, and AMQP clients, over the addresses of the whole network.

`packets.py` and `properties.py` are the tables of the wire, `stream.py` cuts it into packets, `connection.py` is the
server's end of a network connection and `session.py` what outlives one. None of these know of routers. `server.py`
joins them to the router core, by `message.py` (what is what in AMQP), `topics.py` and `retained.py`; `adaptor.py` is
what the transport drives.
"""
