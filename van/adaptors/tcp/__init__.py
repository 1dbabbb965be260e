"""TCP connections over addresses, on the wire as skrouterd 3.x carries them.

`head` knows what stands in front of a connection's octets, `proxy_protocol` the headers by which proxies name clients;
`flow` is what both ends of a connection have in common, `listening` and `connecting` are the two ends.
"""
