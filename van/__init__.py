"""van: a router for virtual application networks."""

__version__ = "0.1.0"
