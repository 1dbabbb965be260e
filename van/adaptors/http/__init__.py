"""HTTP: requests and responses as AMQP messages, one by one, whatever version of HTTP either end speaks.

`mapping` says how a request or a response is a message, `exchange` carries them through the router. The protocols
themselves are in modules of their own, which know nothing of one another.
"""
