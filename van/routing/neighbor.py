"""Neighbours: connections to other routers, as the core sees them.

An adaptor of role inter-router opens or accepts the links and hands them over here; control messages go to the link
state engine, data links take deliveries by priority, large deliveries take links of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from van.routing.link import RouterOutgoingLink


class StreamOpener:
    """What a neighbour's connection can do for the core; the adaptor implements it."""

    __slots__ = ()

    def open_stream(self) -> RouterOutgoingLink | None:
        """Open a streaming link: attach a sender and return what `Router.attach_data_outgoing` made of it.

        The peer need not have answered: deliveries wait on the link. None when the connection cannot have another.
        """
        raise NotImplementedError

    def close_stream(self, link: RouterOutgoingLink) -> None:
        """Detach a streaming link that is not needed any more."""
        raise NotImplementedError
