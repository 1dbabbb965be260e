"""Which routers there are, the ways to them, and the addresses they have: the link state protocol without I/O.

`messages` is what routers say to each other, `neighbors` who is at the other end of our connections, `database` what
is known of everybody else, `spf` the shortest paths through it, `mobile` the addresses; `engine` ties them together.
"""
