"""Debian's Python examples of Qpid Proton, as they are: those that need no listener, no database, no tornado.

Without `helloworld_blocking`: it waits until its message is settled before it looks for it, which only a broker can
settle. A router that does not keep messages leaves the outcome to the receiver, which here is the same, waiting thread.
"""

from __future__ import annotations

import signal

import pytest

from tests.interop.harness import Proton, Router

pytestmark = pytest.mark.interop

POEM = [
    "Twas brillig, and the slithy toves => TWAS BRILLIG, AND THE SLITHY TOVES",
    "Did gire and gymble in the wabe. => DID GIRE AND GYMBLE IN THE WABE.",
    "All mimsy were the borogroves, => ALL MIMSY WERE THE BOROGROVES,",
    "And the mome raths outgrabe. => AND THE MOME RATHS OUTGRABE.",
]


def test_helloworld(proton: Proton) -> None:
    assert proton.example("helloworld").output() == ["Hello World!"]


def test_simple_send_and_simple_recv(router: Router, proton: Proton, address: str) -> None:
    receiver = proton.example("simple_recv", "-a", router.url(address), "-m", "500")
    sender = proton.example("simple_send", "-a", router.url(address), "-m", "500")
    assert sender.output() == ["all messages confirmed"]
    assert receiver.output() == [f"{{'sequence': {number}}}" for number in range(1, 501)]


def test_simple_send_waits_for_a_receiver(router: Router, proton: Proton, address: str) -> None:
    """A router keeps nothing: without a receiver there is no credit, and a late receiver misses nothing."""
    sender = proton.example("simple_send", "-a", router.url(address), "-m", "3", trace=True)
    sender.wait_for_error("<- @attach")
    assert sender.running
    receiver = proton.example("simple_recv", "-a", router.url(address), "-m", "3")
    assert len(receiver.output()) == 3
    assert sender.output() == ["all messages confirmed"]


def test_server_and_client(router: Router, proton: Proton, address: str) -> None:
    server = proton.example("server", "-a", router.url(address))
    client = proton.example("client", "-a", router.url(address))
    assert client.output() == POEM
    assert server.line().startswith("Listening on")
    assert all("Received" in line for line in server.lines(4))


def test_server_and_sync_client(router: Router, proton: Proton, address: str) -> None:
    proton.example("server", "-a", router.url(address))
    assert proton.example("sync_client", "-a", router.url(address), "-t", "20").output() == POEM


def test_abstract_server_and_client(router: Router, proton: Proton) -> None:
    server = proton.example("abstract_server")
    client = proton.example("client", "-a", router.url("examples"), "one", "two")
    assert client.output() == ["one => ONE", "two => TWO"]
    assert all(line.startswith("Request from: ") for line in server.lines(2))


def test_colour_send_and_selected_recv(router: Router, proton: Proton, address: str) -> None:
    """We have no selectors: every colour arrives, and our Attach does not claim otherwise (`test_proton_links`)."""
    receiver = proton.example("selected_recv", "-a", router.url(address), "-m", "10")
    sender = proton.example("colour_send", "-a", router.url(address), "-m", "10")
    assert sender.output() == ["all messages confirmed"]
    assert receiver.output() == [f"{'red' if number % 2 == 0 else 'green'} {number}" for number in range(1, 11)]


def test_queue_browser(router: Router, proton: Proton) -> None:
    """There are no queues to browse; it gets what is sent while it looks."""
    browser = proton.example("queue_browser")
    assert proton.example("simple_send", "-a", router.url("examples"), "-m", "3").output() == ["all messages confirmed"]
    assert all("sequence" in line for line in browser.lines(3))
    browser.signal(signal.SIGINT)
    browser.output(status=None)


@pytest.mark.parametrize("example", ["tx_send", "tx_recv"])
def test_transactions_are_refused_with_a_reason(router: Router, proton: Proton, address: str, example: str) -> None:
    program = proton.example(example, "-a", router.url(address), "-m", "10", "-b", "5", trace=True)
    program.output(status=None)
    program.wait_for_error('<- @detach(22) [handle=0x1, closed=true, error=@error(29) [condition=:"amqp:precondition-')
