"""Debian's Python examples of Qpid Proton, as they are: all that need no listener of their own and no tornado."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

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


def test_a_transactional_server_is_refused_with_a_reason(router: Router, proton: Proton) -> None:
    server = proton.example("server_tx", trace=True)
    server.wait_for_error("<- @attach")
    proton.example("client", "-a", router.url("examples"), "one")
    server.wait_for_error('[condition=:"amqp:precondition-failed"')


def test_an_interactive_transactional_receiver_is_refused_with_a_reason(proton: Proton) -> None:
    program = proton.example("tx_recv_interactive", trace=True, asks=True)
    assert program.line() == "Enter 'fetch', 'commit' or 'abort'"
    program.wait_for_error('[condition=:"amqp:precondition-failed"')


def test_records_go_from_one_database_to_another(
    router: Router, proton: Proton, address: str, tmp_path: Path
) -> None:
    rows = [(number, f"record {number}") for number in range(1, 201)]
    for name in ("src_db", "dst_db"):
        proton.example("db_ctrl", "init", name, folder=tmp_path).output()
    with sqlite3.connect(tmp_path / "src_db") as source:
        source.executemany("INSERT INTO records(id, description) VALUES (?, ?)", rows)
    source.close()
    receiver = proton.example("db_recv", "-a", router.url(address), "-m", "200", folder=tmp_path)
    sender = proton.example("db_send", "-a", router.url(address), "-m", "200", folder=tmp_path)
    receiver.output()
    sender.output()
    listed = proton.example("db_ctrl", "list", "dst_db", folder=tmp_path)
    assert listed.output() == [str(row) for row in rows]
    assert proton.example("db_ctrl", "list", "src_db", folder=tmp_path).output() == []


def test_helloworld_blocking_asks_for_what_only_a_store_can_give(proton: Proton) -> None:
    """It waits for its message's outcome before it gives credit to receive it: a router has nowhere to settle it.

    The scene shows that this is so, and that the router says nothing untrue meanwhile.
    """
    program = proton.example("helloworld_blocking", trace=True)
    program.wait_for_error("-> @transfer")
    assert not [line for line in program.errors if "-> @flow" in line]
    assert not [line for line in program.errors if "<- @disposition" in line]
    assert program.running
