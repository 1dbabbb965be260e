"""`van send` and `van receive`: messages to stdout, everything else to stderr, and the exit codes that scripts use."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from tests.cli.vans import COMMAND, Van, only_json
from van.cli.main import main


def test_a_body_goes_from_the_one_to_the_other(van: Van, address: str) -> None:
    receiver = van.start("receive", address, "--count", "2")
    done = van("send", address, "one coffee", "käse")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert receiver.output() == ["one coffee", "käse"]


def test_json_shows_what_arrived_and_what_became_of_it(van: Van, address: str) -> None:
    receiver = van.start("receive", address, "--count", "1", "-o", "json")
    done = van(
        "send", address, "x", "-o", "json", "--subject", "s", "-p", "colour=green", "-p", "weight:=12",
        "--message-id", "m", "--durable", "--priority", "7", "--ttl", "60000",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert only_json(done) == {
        "sent": 1, "accepted": 1, "rejected": 0, "released": 0, "modified": 0, "in_doubt": 0,
    }  # fmt: skip
    (line,) = receiver.output()
    assert json.loads(line) == {
        "address": address,
        "properties": {"message_id": "m", "subject": "s"},
        "application_properties": {"colour": "green", "weight": 12},
        "body": "x",
    }


def test_many_messages_of_a_size(van: Van, address: str) -> None:
    receiver = van.start("receive", address, "--count", "2000")
    done = van("send", address, "--count", "2000", "--size", "33", "-o", "json")
    assert only_json(done)["accepted"] == 2000
    lines = receiver.output()
    assert len(lines) == 2000
    assert {len(line) for line in lines} == {33}


def test_presettled_messages_are_counted_as_sent(van: Van, address: str) -> None:
    receiver = van.start("receive", address, "--count", "3", "--presettled")
    done = van("send", address, "a", "b", "--count", "3", "--presettled", "-o", "json")
    assert (done.returncode, only_json(done)["sent"], only_json(done)["accepted"]) == (0, 3, 0)
    assert receiver.output() == ["a", "b", "a"]


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_the_body_may_come_from_stdin(van: Van, address: str, arguments: list[str]) -> None:
    receiver = van.start("receive", address, "--count", "1", "-o", "json")
    assert van("send", address, *arguments, stdin="two\nlines\n").returncode == 0
    assert json.loads(receiver.output()[0])["body"] == "two\nlines\n"


def test_octets_stay_octets(van: Van, address: str) -> None:
    receiver = van.start("receive", address, "--count", "1", "-o", "json")
    assert van("send", address, stdin=b"\xff\x00").returncode == 0
    assert json.loads(receiver.output()[0])["body"] == {"base64": "/wA="}


def test_an_outcome_other_than_accepted_is_told_and_exits_1(van: Van, address: str) -> None:
    van.start("receive", address, "--answer", "reject")
    done = van("send", address, "x", "y", "-o", "json")
    assert (done.returncode, done.stderr) == (1, "van: rejected (2 messages)\n")
    assert only_json(done)["rejected"] == 2


def test_nobody_receives_exits_75(van: Van, address: str) -> None:
    done = van("send", address, "x", "--timeout", "0.3", "-o", "json")
    assert done.returncode == 75
    assert done.stderr == f"van: no credit for {address}: nobody receives there within 0.3 s\n"
    assert only_json(done)["sent"] == 0


def test_an_outcome_that_does_not_come_exits_75(van: Van, address: str) -> None:
    receiver = van.start("receive", address)
    van("send", address, "warm up")
    assert receiver.line() == "warm up"
    receiver.signal(signal.SIGSTOP)
    done = van("send", address, "x", "--timeout", "0.5", "-o", "json")
    receiver.signal(signal.SIGCONT)
    assert (done.returncode, done.stderr) == (75, f"van: no outcome from {address} within 0.5 s\n")
    assert only_json(done)["in_doubt"] == 1


def test_nothing_arrives_exits_75(van: Van, address: str) -> None:
    done = van("receive", address, "--count", "1", "--timeout", "0.3")
    assert (done.returncode, done.stdout, done.stderr) == (75, "", f"van: nothing from {address} within 0.3 s\n")
    assert van("receive", address, "--timeout", "0.2").returncode == 75


def test_silence_after_something_is_an_end_like_any_other(van: Van, address: str) -> None:
    sender = van.start("send", address, "x", "--timeout", "0")
    done = van("receive", address, "--timeout", "3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")
    sender.output(status=0)


def test_an_address_that_is_refused_exits_77(van: Van) -> None:
    done = van("send", "closed/x", "x")
    assert done.returncode == 77
    assert done.stderr.startswith("van: refused: amqp:not-found: ")
    assert van("receive", "closed/x").returncode == 77


def test_who_does_not_get_in_exits_77(van: Van) -> None:
    users = van.router.url(listener="users")
    done = van("send", "a", "x", "--url", users)
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.startswith("van: refused: amqp:unauthorized-access: ")
    done = van("send", "a", "x", "--url", users, "--sasl-username", "alice", "--sasl-password", "wrong-one")
    assert done.returncode == 77
    assert "wrong-one" not in done.stderr


def test_the_password_may_be_in_a_variable_or_a_file(van: Van) -> None:
    url = van.router.url(listener="users")
    options = ["ping", "--count", "1", "--url", url, "--sasl-username", "alice", "--sasl-password"]
    assert van(*options, "env:SECRET", SECRET="pencil").returncode == 0
    (van.folder / "secret").write_text("pencil\nnot this line\n")
    assert van(*options, "file:secret").returncode == 0


@pytest.mark.parametrize("password", ["env:NOT_THERE", "file:not-there"])
def test_a_password_that_is_not_where_it_should_be(capsys: pytest.CaptureFixture[str], password: str) -> None:
    assert main(["ping", "--sasl-username", "alice", "--sasl-password", password]) == 2
    assert password.partition(":")[2] in capsys.readouterr().err


def test_tls_with_an_authority_of_ones_own(van: Van) -> None:
    url = van.router.url(listener="tls", scheme="amqps")
    assert van("ping", "--count", "1", "--url", url, "--ca-cert-file", "ca.pem").returncode == 0
    done = van("ping", "--count", "1", "--url", url)
    assert done.returncode == 69
    assert "certificate" in done.stderr


def test_a_router_that_is_not_there_exits_69(van: Van) -> None:
    done = van("send", "a", "x", VAN_URL="amqp://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == "van: amqp://127.0.0.1:1: cannot connect to 127.0.0.1:1: connection refused\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(van: Van, address: str, number: signal.Signals) -> None:
    receiver = van.start("receive", address)
    assert van("send", address, "x").returncode == 0
    assert receiver.line() == "x"
    receiver.signal(number)
    assert receiver.output(status=128 + number) == []
    assert receiver.errors == []
    # It has detached: nobody receives there any more.
    assert van("send", address, "y", "--timeout", "0.2").returncode == 75


def test_what_a_reader_that_has_gone_did_not_see_is_not_accepted(van: Van, address: str) -> None:
    pipe = subprocess.Popen(
        [*COMMAND, "receive", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=van.environment(),
    )
    assert pipe.stdout is not None
    assert pipe.stderr is not None
    assert van("send", address, "seen").returncode == 0
    assert pipe.stdout.readline() == b"seen\n"
    pipe.stdout.close()
    done = van("send", address, "not seen")
    assert done.returncode == 1
    assert done.stderr.startswith("van: ")
    assert pipe.wait(20) == 141
    assert pipe.stderr.read() == b""
    pipe.stderr.close()
