"""Addresses with a service as names of the DNS, without I/O (docs/dns.md)."""
