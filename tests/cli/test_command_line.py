"""The command line itself: what it knows, what it says to mistakes, and that it stays out of the router's way."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import uuid

import pytest

import van as package
from tests.cli.vans import COMMAND, Van
from van.amqp.types import Described, Symbol, Timestamp
from van.cli.commands import run
from van.cli.errors import UsageError
from van.cli.main import main
from van.cli.messages import parse_property
from van.cli.output import plain


def test_version_is_one_line(van: Van) -> None:
    done = van("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"van {package.__version__} (Python ")
    assert done.stdout.count("\n") == 1


def test_help_names_commands_and_exit_codes(van: Van) -> None:
    done = van("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("send", "receive", "request", "ping", "router", "69", "75", "77", "78", "VAN_URL"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout


def test_help_for_a_command_and_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "--help"]) == 0
    assert "--presettled" in capsys.readouterr().out
    assert main([]) == 0
    assert "receive" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("sned", "a"), 'Unknown command "sned". Did you mean "send"?'),
        (("send",), "ADDRESS requires an argument"),
        (("send", "a", "b", "--urk", "x"), "Unknown option: --urk. Did you mean --url?"),
        (("send", "a", "b", "--count", "some"), "--count"),
        (("send", "a", "b", "--count", "-1"), "--count cannot be negative"),
        (("send", "a", "b", "--size", "1"), "a body or --size, not both"),
        (("send", "a", "--size", "-1"), "--size cannot be negative"),
        (("send", "a", "-", "-"), "stdin can be one body only"),
        (("send", "a", "b", "--timeout", "-1"), "--timeout cannot be negative"),
        (("send", "a", "b", "--priority", "10"), "--priority has to be from 0 to 9"),
        (("send", "a", "b", "--ttl", "-1"), "--ttl has to be"),
        (("send", "a", "b", "-p", "colour"), '"colour" is no property'),
        (("send", "a", "b", "-o", "yaml"), "-o"),
        (("send", "a", "b", "--url", "localhost:5672"), 'did you mean "amqp://localhost:5672"'),
        (("send", "a", "b", "--sasl-username", "alice"), "without a password"),
        (("send", "a", "b", "--ca-cert-file", "gone.pem"), "gone.pem"),
        (("receive", "a", "--count", "0"), "--count has to be at least 1"),
        (("ping", "--interval", "-1"), "cannot be negative"),
    ],
)
def test_mistakes_exit_2_and_are_explained_on_stderr(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert err.startswith("van: ")
    assert err.count("\n") == 1


def test_mistakes_as_a_shell_sees_them(van: Van) -> None:
    done = van("sned", "a")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith('van: Unknown command "sned". Did you mean "send"?')
    assert "\x1b" not in done.stderr


def test_van_router_is_the_router(van: Van) -> None:
    done = van("router", "site.toml", "--check")
    assert (done.returncode, done.stdout) == (0, "site.toml: valid\n")
    (van.folder / "wrong.toml").write_text("[router]\nmode = 'x'\n")
    assert van("router", "wrong.toml", "--check").returncode == 78


def test_a_router_starts_without_the_libraries_of_the_command_line(van: Van) -> None:
    program = (
        "import sys; from van.cli.main import main; code = main(['router', sys.argv[1], '--check']);"
        "print(code, sorted({'cyclopts', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(van.folder / "site.toml")],
        capture_output=True, text=True, timeout=60, check=True, env=van.environment(),
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_router_is_a_command_like_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["router", "--check"]) == 0
    assert capsys.readouterr().out == "the embedded default: valid\n"
    assert main(["router", "--check"]) == 0


def test_a_terminal_is_asked_for_a_body(van: Van) -> None:
    # Who types `van send orders` and waits would wait for ever; and here an error may be red.
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*COMMAND, "send", "a"], stdin=theirs, capture_output=True, text=True, timeout=60, check=False,
            env=van.environment(),
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, done.stderr) == (2, "van: no body: give one, or - to type it, or --count or --size\n")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("a=b", "a", "b"),
        ("a=", "a", ""),
        ("a=b=c", "a", "b=c"),
        ("a:=1", "a", 1),
        ("a:=true", "a", True),
        ("a:=null", "a", None),
        ('a:="1"', "a", "1"),
    ],
)
def test_application_properties(text: str, name: str, value: object) -> None:
    assert parse_property(text) == (name, value)


@pytest.mark.parametrize("text", ["a", "=b", ":=1", "a:=b", "a:=[1]", "a:={}", "a:=NaN"])
def test_what_is_no_application_property(text: str) -> None:
    with pytest.raises(UsageError):
        parse_property(text)


def test_every_type_has_its_json() -> None:
    identity = uuid.UUID(int=1)
    value = {
        Symbol("s"): [None, True, Timestamp(5), 1.5, float("inf"), b"ok", b"\xff", identity, Symbol("x")],
        7: Described(Symbol("d"), (1, 2)),
        "else": object,
    }
    assert plain(value) == {
        "s": [None, True, 5, 1.5, "inf", "ok", {"base64": "/w=="}, str(identity), "x"],
        "7": {"descriptor": "d", "value": [1, 2]},
        "else": str(object),
    }
