"""The options that several commands have in common. The docstrings are what `--help` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from cyclopts import Group, Parameter

from van.client import DEFAULT_URL

CONNECTION = Group("Connection", sort_key=10)
MESSAGE = Group("Message", sort_key=5)

DEFAULT_TIMEOUT = 10.0

Flag = Annotated[bool, Parameter(negative=(), show_default=False)]

OutputFormat: TypeAlias = Literal["text", "json"]


@Parameter(name="*", group=CONNECTION)
@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """How to reach the router, and who we are to it."""

    url: Annotated[str, Parameter(env_var="VAN_URL")] = DEFAULT_URL
    """amqp, amqps, ws or wss; user and password may stand in it."""
    sasl_username: str | None = None
    """The user; SCRAM or PLAIN is used."""
    sasl_password: str | None = None
    """The password: env:NAME, file:PATH (its first line), or itself, where everybody on this machine can read it."""
    sasl_mechanism: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = ()
    """Only these mechanisms."""
    allow_insecure_plain: Flag = False
    """Show the password (PLAIN) even on a connection that is not encrypted."""
    ca_cert_file: str | None = None
    """Whom to trust with amqps and wss; by default those that the operating system trusts."""
    cert_file: str | None = None
    """Our own certificate, for EXTERNAL."""
    private_key_file: str | None = None
    """Its key, if that is not in the same file."""
    verify_hostname: bool = True
    """Whether the router's certificate has to be for the host in the URL."""
    proxy: str | None = None
    """URL of an HTTP or SOCKS proxy."""


@Parameter(name="*", group=MESSAGE)
@dataclass(frozen=True, kw_only=True)
class MessageOptions:
    """What is in a message beside its body."""

    property: Annotated[
        tuple[str, ...],
        Parameter(name=("--property", "-p"), negative=(), show_default=False, metavar="NAME=VALUE"),
    ] = ()
    """An application property, a text; NAME:=VALUE for any JSON scalar."""
    subject: str | None = None
    """What the message is about."""
    message_id: str | None = None
    """Its identity."""
    correlation_id: str | None = None
    """What it belongs to."""
    reply_to: str | None = None
    """The address for answers."""
    content_type: str | None = None
    """The MIME type of the body, which is then sent as octets."""
    durable: Flag = False
    """Ask brokers to keep the message through a restart."""
    priority: int | None = None
    """0 to 9; 4 if nothing is said."""
    ttl: int | None = None
    """Milliseconds after which nobody wants it any more."""


NO_CONNECTION_OPTIONS = ConnectionOptions()
NO_MESSAGE_OPTIONS = MessageOptions()
