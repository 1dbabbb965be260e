"""MQTT 3.1.1 and 5: clients of either meet one another, and AMQP clients, over the addresses of the whole network.

`packets.py` and `properties.py` are the tables of the wire, `stream.py` cuts it into packets, `connection.py` is the
server's end of a network connection and `session.py` what outlives one: none of these know of routers. `service.py` is
the service of a router and `client.py` one client of it with its links in the core; `publisher.py` sends, `message.py`
says what is what in AMQP, `topics.py` which address is which topic, `retained.py` and `snapshot.py` have the messages
that are retained. `adaptor.py` is what the transport drives.
"""
