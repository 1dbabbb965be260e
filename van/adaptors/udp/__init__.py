"""Datagrams: UDP ports and servers joined to addresses, without I/O (docs/udp.md)."""
