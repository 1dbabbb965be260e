"""What an owner of a link has to do (`delivery.py`): a duty that it forgot is an error of ours, and told at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.amqp.pair import Endpoint
from tests.amqp.peer import Peer
from van.amqp.delivery import Delivery, DeliveryOrigin, DeliverySink, DeliverySource, DeliveryTarget, Holder
from van.amqp.link import Link
from van.amqp.performatives import Attach


class ForgetfulOrigin(DeliveryOrigin):
    __slots__ = ()


class ForgetfulSink(DeliverySink):
    __slots__ = ()


class ForgetfulTarget(DeliveryTarget):
    __slots__ = ()


class ForgetfulSource(DeliverySource):
    __slots__ = ()


def delivery() -> Delivery:
    return Delivery(None, 0, b"", b"", False, Holder())


@pytest.mark.parametrize(
    ("owner", "duty", "arguments"),
    [
        (ForgetfulOrigin, "outcome", (None, True)),
        (ForgetfulOrigin, "left", ()),
        (ForgetfulSink, "deliver", ()),
        (ForgetfulSink, "extend", (b"",)),
        (ForgetfulSink, "abort", ()),
        (ForgetfulSink, "updated", (None, True)),
        (ForgetfulTarget, "extend", (b"",)),
        (ForgetfulTarget, "abort", ()),
        (ForgetfulSource, "updated", (None, True)),
        (ForgetfulSource, "left", ()),
    ],
)
def test_a_duty_without_answer_is_told(owner: type[Any], duty: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(NotImplementedError):
        getattr(owner(), duty)(delivery(), *arguments)


def test_a_target_says_whether_others_wait() -> None:
    with pytest.raises(NotImplementedError):
        ForgetfulTarget().others_wait()


def test_what_an_owner_may_leave_alone_does_nothing() -> None:
    engine = Endpoint()
    session = Peer(engine).open().begin().engine.connection.sessions[0]
    sink = ForgetfulSink()
    sink.hurry(delivery())
    sink.flow_received(session.receiver("r"), 0)
    ForgetfulSource().credit_changed(session.sender("s"))


def test_a_link_is_a_sender_or_a_receiver() -> None:
    session = Peer(Endpoint()).open().begin().engine.connection.sessions[0]
    link = Link(session, "neither")
    link.hurry()
    with pytest.raises(NotImplementedError):
        link.on_attach(Attach(name="neither", handle=0, role=True))
    with pytest.raises(NotImplementedError):
        link.on_flow(0, 0, 0, False, False)
    with pytest.raises(NotImplementedError):
        link.attach(Attach(name="neither", handle=0, role=True))


def test_a_delivery_shows_what_is_here_of_it() -> None:
    whole = Delivery(None, 0, b"", b"whole", False, Holder())
    assert whole.data() == b"whole"
