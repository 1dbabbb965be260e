"""What is counted of links that are there no more, so that the router's counts go on when links end."""

from __future__ import annotations

from van.routing.incoming_link import IncomingLink
from van.routing.outgoing_link import OutgoingLink


class Tally:
    """Deliveries of applications' links that have ended, and the outcomes that their senders heard.

    `ingress` came from applications, `egress` went to them, `transit` came from other routers. Of the first two,
    `from_brokers` came and `to_brokers` went by connections of role route-container.
    """

    __slots__ = (
        "accepted",
        "egress",
        "from_brokers",
        "ingress",
        "modified",
        "presettled",
        "rejected",
        "released",
        "to_brokers",
        "transit",
    )

    def __init__(self) -> None:
        self.ingress = 0
        self.egress = 0
        self.transit = 0
        self.from_brokers = 0
        self.to_brokers = 0
        self.presettled = 0
        self.accepted = 0
        self.rejected = 0
        self.released = 0
        self.modified = 0

    def add(self, link: IncomingLink | OutgoingLink) -> None:
        """A link is about to end: what it has carried is kept."""
        if link.joint:
            return
        deliveries = link.link.deliveries()
        address = link.address
        if link.between_routers:
            if isinstance(link, IncomingLink):
                self.transit += deliveries
        elif isinstance(link, OutgoingLink):
            self.egress += deliveries
            address.past_egress += deliveries
        else:
            self.ingress += deliveries
            address.past_ingress += deliveries
            self.presettled += link.presettled
            self.rejected += link.rejected
            self.released += link.released
            self.modified += link.modified
            # What has no outcome will have one from nobody here.
            waiting = max(0, link.capacity - link.owed - link.link.link_credit)
            others = link.presettled + link.rejected + link.released + link.modified + waiting
            self.accepted += max(0, deliveries - others)
