"""The `$management` node: what a router says about itself, as entities that can be queried and read.

`entities.py` declares them, `node.py` answers requests about them, `agent.py` joins that to the router as one more
AMQP peer. Nothing here waits, reads a clock or knows a socket: what only the process knows comes from `facts.py`.
"""
