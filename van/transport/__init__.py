"""Moving bytes with trio: streams, listeners, connectors, and the one driver of a connection.

Nothing here knows what the bytes mean: listeners and connectors are given a factory for the protocol endpoint
(`van.routing.adaptor.Adaptor`), and `driver.run_adaptor` moves bytes between it and a stream.
"""
