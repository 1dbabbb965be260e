"""The SASL layer of a connection, both roles (part 5, section 3 of the specification), without I/O.

Responsible for: which performative may follow which, the choice of a mechanism, the number and the size of the steps,
the outcome. ANONYMOUS, PLAIN and EXTERNAL live here because they need nothing but the standard library.
Left to others: protocol headers and frames (`connection.py`), who may come in (the functions given to the mechanisms),
SCRAM (`van.transport.scram`; mechanisms are plain objects, so anybody can bring one).

Two kinds of failure are kept apart. A peer that breaks the protocol gets an `AmqpError` raised, and its connection
ends. A peer that cannot prove who it is has not broken anything: the exchange ends in order, with an outcome that
says so, and `succeeded` stays false. There is one attempt per connection: who was refused connects again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from van.amqp.composite import Composite
from van.amqp.errors import AmqpConnectionError, ErrorCondition
from van.amqp.sasl_frames import (
    SASL_CODE_AUTH,
    SASL_CODE_OK,
    SASL_CODE_SYS,
    SASL_CODE_SYS_PERM,
    SASL_CODE_SYS_TEMP,
    SaslChallenge,
    SaslInit,
    SaslMechanisms,
    SaslOutcome,
    SaslResponse,
)
from van.amqp.types import Symbol, UByte

MAX_SASL_DATA_SIZE: Final = 487
"""Octets in one initial response, challenge, response or additional data.

A SASL frame is at most 512 octets (5.3.1, MIN-MAX-FRAME-SIZE), and what surrounds the data takes at least 25 of them.
Proton's limit is the same 512, rhea has none. A peer that sends more, or whose nonce would make our own answer longer,
ends its connection.
"""

MAX_SASL_ROUNDS: Final = 8
"""Challenges in one exchange. SCRAM needs two and nothing deployed more than four; a peer that never comes to an end is
cut off here, before the handshake time-out of the listener would do it.
"""


_CODE_MEANINGS: Final = {
    SASL_CODE_AUTH: "authentication failed",
    SASL_CODE_SYS: "the peer had a system error",
    SASL_CODE_SYS_PERM: "the peer had a permanent system error",
    SASL_CODE_SYS_TEMP: "the peer had a temporary system error",
}


class SaslError(Exception):
    """Raised by a mechanism to refuse its peer.

    `reason` is for our own log: the peer learns `code` and nothing else, lest it can tell an unknown user from a
    wrong password.
    """

    def __init__(self, reason: str, code: int = SASL_CODE_AUTH) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


# What is allowed when. A performative that is missing, or comes in another state, breaks the protocol.

OFFERED: Final = "mechanisms offered"
CHALLENGED: Final = "challenge sent"
EXPECTING_MECHANISMS: Final = "expecting mechanisms"
INITIATED: Final = "init sent"
DONE: Final = "done"

_SERVER_RULES: dict[type, str] = {
    SaslInit: OFFERED,
    SaslResponse: CHALLENGED,
}
_CLIENT_RULES: dict[type, str] = {
    SaslMechanisms: EXPECTING_MECHANISMS,
    SaslChallenge: INITIATED,
    SaslOutcome: INITIATED,
}


class ServerMechanism(Protocol):
    """One exchange seen from the server; made anew for each connection.

    `client_first`: the client speaks first (nearly all do); without an initial response it is asked by an empty
    challenge. `identity` is the user once `step` has returned None, and empty for nobody in particular;
    `additional_data` then goes with the outcome.
    """

    name: str
    client_first: bool
    identity: str
    additional_data: bytes | None

    def step(self, data: bytes) -> bytes | None:
        """Take what the client sent; return the next challenge, or None when the client is proven.

        Raise `SaslError` to refuse it.
        """


class ClientMechanism(Protocol):
    """One exchange seen from the client; made anew for each connection.

    Of those that the server offers, the mechanism with the greatest `strength` is used. `reveals_password`: the
    server, and whoever reads along, gets to see the secret itself.
    """

    name: str
    strength: int
    reveals_password: bool
    identity: str

    def start(self) -> bytes | None:
        """Return the initial response, or None for none (which is not the same as an empty one)."""

    def step(self, data: bytes) -> bytes:
        """Take a challenge, return the response. Raise `SaslError` if the server is not to be trusted."""

    def finish(self, data: bytes | None) -> None:
        """Take the additional data of a good outcome. Raise `SaslError` if the server has not proven itself."""


class _Exchange:
    """What both roles share: the state, the rules and the result."""

    __slots__ = ("_rounds", "_rules", "done", "error", "identity", "mechanism", "state", "succeeded")

    def __init__(self, rules: dict[type, str], state: str) -> None:
        self._rules = rules
        self._rounds = 0
        self.state = state
        self.done = False
        self.succeeded = False
        self.mechanism = ""
        self.identity = ""
        self.error = ""

    def _check_order(self, performative: object) -> None:
        legal = self._rules.get(type(performative))
        if legal is None or legal != self.state:
            raise AmqpConnectionError(
                ErrorCondition.ILLEGAL_STATE, f"{type(performative).__name__} is not allowed here: {self.state}"
            )

    def _count_round(self) -> None:
        self._rounds += 1
        if self._rounds > MAX_SASL_ROUNDS:
            raise AmqpConnectionError(
                ErrorCondition.RESOURCE_LIMIT_EXCEEDED, f"more than {MAX_SASL_ROUNDS} SASL challenges"
            )

    def _end(self, error: str) -> None:
        self.state = DONE
        self.done = True
        self.succeeded = not error
        self.error = error


def _check_size(data: bytes) -> bytes:
    if len(data) > MAX_SASL_DATA_SIZE:
        raise AmqpConnectionError(
            ErrorCondition.RESOURCE_LIMIT_EXCEEDED,
            f"{len(data)} octets in one SASL step, at most {MAX_SASL_DATA_SIZE} are allowed",
        )
    return data


class SaslServer(_Exchange):
    """The server of one exchange.

    `done` becomes true when the outcome has been handed out; `succeeded`, `mechanism` and `identity` (the user, empty
    for ANONYMOUS) then say how it went, and `error` why not, for our own log. `hostname` is the host that the client
    asked for in its init (5.3.3.2), if any.
    """

    __slots__ = ("_chosen", "_mechanisms", "hostname")

    def __init__(self, mechanisms: Sequence[ServerMechanism]) -> None:
        """Offer these mechanisms, in this order. At least one is needed (`ValueError`)."""
        if not mechanisms:
            raise ValueError("a SASL server needs at least one mechanism")
        super().__init__(_SERVER_RULES, OFFERED)
        self._mechanisms = {mechanism.name: mechanism for mechanism in mechanisms}
        self._chosen: ServerMechanism | None = None
        self.hostname: str | None = None

    def start(self) -> list[Composite]:
        """Return what is sent right after the SASL header."""
        return [SaslMechanisms(sasl_server_mechanisms=[Symbol(name) for name in self._mechanisms])]

    def receive(self, performative: object) -> list[Composite]:
        """Take one performative of the client and return the answer. Raise `AmqpConnectionError` for a breach."""
        self._check_order(performative)
        if isinstance(performative, SaslInit):
            return self._on_init(performative)
        assert isinstance(performative, SaslResponse)
        return self._step(performative.response)

    def _on_init(self, init: SaslInit) -> list[Composite]:
        self.mechanism = str(init.mechanism)
        self.hostname = init.hostname
        self._chosen = self._mechanisms.get(self.mechanism)
        if self._chosen is None:
            return self._outcome(SASL_CODE_AUTH, f"mechanism {self.mechanism!r} was not offered")
        if init.initial_response is None and self._chosen.client_first:
            return self._challenge(b"")  # RFC 4422, section 3.3: ask for what could have come with the init
        return self._step(init.initial_response or b"")

    def _step(self, data: bytes) -> list[Composite]:
        assert self._chosen is not None
        try:
            challenge = self._chosen.step(_check_size(data))
        except SaslError as refusal:
            return self._outcome(refusal.code, refusal.reason)
        if challenge is not None:
            return self._challenge(challenge)
        self.identity = self._chosen.identity
        return self._outcome(SASL_CODE_OK, "", self._chosen.additional_data)

    def _challenge(self, data: bytes) -> list[Composite]:
        self._count_round()
        self.state = CHALLENGED
        return [SaslChallenge(challenge=_check_size(data))]

    def _outcome(self, code: int, error: str, additional_data: bytes | None = None) -> list[Composite]:
        self._end(error)
        return [SaslOutcome(code=UByte(code), additional_data=additional_data)]


class SaslClient(_Exchange):
    """The client of one exchange.

    Uses the strongest of its mechanisms that the server offers. One that shows the password to the server is used only
    if the connection is `encrypted` or `allow_insecure_plain` is set. `done`, `succeeded`, `mechanism`, `identity` and
    `error` as with `SaslServer`; when nothing can be agreed on, the exchange is done without an answer and the
    connection is to be closed (5.3.3.1).
    """

    __slots__ = ("_allow_reveal", "_chosen", "_hostname", "_mechanisms", "code")

    def __init__(
        self,
        mechanisms: Sequence[ClientMechanism],
        *,
        hostname: str | None = None,
        encrypted: bool = False,
        allow_insecure_plain: bool = False,
    ) -> None:
        super().__init__(_CLIENT_RULES, EXPECTING_MECHANISMS)
        self._mechanisms = sorted(mechanisms, key=lambda mechanism: -mechanism.strength)
        self._chosen: ClientMechanism | None = None
        self._hostname = hostname
        self._allow_reveal = encrypted or allow_insecure_plain
        self.code: int | None = None
        """The `sasl-code` (5.3.3.6) of the server's outcome, once there is one."""

    def start(self) -> list[Composite]:
        """Return what is sent right after the SASL header: nothing, the server speaks first."""
        return []

    def receive(self, performative: object) -> list[Composite]:
        """Take one performative of the server and return the answer. Raise `AmqpConnectionError` for a breach."""
        self._check_order(performative)
        if isinstance(performative, SaslMechanisms):
            return self._on_mechanisms(performative)
        if isinstance(performative, SaslChallenge):
            return self._on_challenge(performative)
        assert isinstance(performative, SaslOutcome)
        self._on_outcome(performative)
        return []

    def _on_mechanisms(self, mechanisms: SaslMechanisms) -> list[Composite]:
        offered = [str(name) for name in mechanisms.sasl_server_mechanisms or ()]
        common = [mechanism for mechanism in self._mechanisms if mechanism.name in offered]
        usable = [mechanism for mechanism in common if self._allow_reveal or not mechanism.reveals_password]
        if not usable:
            self._end(self._nothing_in_common(offered, common))
            return []
        self._chosen = usable[0]
        self.mechanism = self._chosen.name
        self.state = INITIATED
        initial_response = self._chosen.start()
        if initial_response is not None:
            _check_size(initial_response)
        return [SaslInit(mechanism=Symbol(self.mechanism), initial_response=initial_response, hostname=self._hostname)]

    def _nothing_in_common(self, offered: Sequence[str], common: Sequence[ClientMechanism]) -> str:
        if common:
            return f"{common[0].name} would show the password on a connection that is not encrypted"
        ours = ", ".join(mechanism.name for mechanism in self._mechanisms)
        return f"the server offers {', '.join(offered) or 'nothing'}; we have {ours or 'nothing'}"

    def _on_challenge(self, challenge: SaslChallenge) -> list[Composite]:
        assert self._chosen is not None
        self._count_round()
        try:
            response = self._chosen.step(_check_size(challenge.challenge))
        except SaslError as refusal:
            self._end(refusal.reason)
            return []
        return [SaslResponse(response=_check_size(response))]

    def _on_outcome(self, outcome: SaslOutcome) -> None:
        assert self._chosen is not None
        self.code = int(outcome.code)
        if self.code != SASL_CODE_OK:
            meaning = _CODE_MEANINGS.get(self.code)
            if meaning is None:
                raise AmqpConnectionError(ErrorCondition.INVALID_FIELD, f"no such sasl-code: {self.code}")
            self._end(meaning)
            return
        try:
            self._chosen.finish(outcome.additional_data)
        except SaslError as refusal:
            self._end(refusal.reason)
            return
        self.identity = self._chosen.identity
        self._end("")


# The mechanisms that need nothing but the standard library.


class AnonymousServer:
    """ANONYMOUS (RFC 4505): everybody is let in as nobody. The trace that a client may send is not looked at."""

    __slots__ = ("additional_data", "client_first", "identity", "name")

    def __init__(self) -> None:
        self.name = "ANONYMOUS"
        self.client_first = False  # many clients send no initial response; an empty trace is as good
        self.identity = ""
        self.additional_data: bytes | None = None

    def step(self, data: bytes) -> bytes | None:
        return None


class PlainServer:
    """PLAIN (RFC 4616). `verify(user, password)` decides; it should take the same time for unknown users.

    Acting for somebody else (an authorization identity other than the user) is refused.
    """

    __slots__ = ("_verify", "additional_data", "client_first", "identity", "name")

    def __init__(self, verify: Callable[[str, str], bool]) -> None:
        self.name = "PLAIN"
        self.client_first = True
        self.identity = ""
        self.additional_data: bytes | None = None
        self._verify = verify

    def step(self, data: bytes) -> bytes | None:
        try:
            authorization, user, password = data.decode("utf-8").split("\0")
        except ValueError:  # includes UnicodeDecodeError
            raise SaslError("malformed PLAIN message") from None
        if not user or not password:  # both are 1*SAFE in the grammar of RFC 4616
            raise SaslError("PLAIN message without a user or without a password")
        if not self._verify(user, password):
            raise SaslError(f"wrong password or unknown user {user!r}")
        if authorization not in ("", user):
            raise SaslError(f"user {user!r} may not act for {authorization!r}")
        self.identity = user
        return None


class ExternalServer:
    """EXTERNAL (RFC 4422, appendix A): the client is who its certificate says, verified in the TLS handshake.

    `identity` is that name, None if the client showed no certificate. Acting for somebody else is refused.
    """

    __slots__ = ("_certified", "additional_data", "client_first", "identity", "name")

    def __init__(self, identity: str | None) -> None:
        self.name = "EXTERNAL"
        # A missing initial response is taken for an empty one, as Proton's server does: it saves a round, and
        # the only client that could notice is one that would be refused, because it wants to act for another.
        self.client_first = False
        self.identity = ""
        self.additional_data: bytes | None = None
        self._certified = identity

    def step(self, data: bytes) -> bytes | None:
        if not self._certified:
            raise SaslError("EXTERNAL without a client certificate")
        try:
            authorization = data.decode("utf-8")
        except UnicodeDecodeError:
            raise SaslError("malformed EXTERNAL message") from None
        if authorization not in ("", self._certified):
            raise SaslError(f"user {self._certified!r} may not act for {authorization!r}")
        self.identity = self._certified
        return None


def anonymous() -> ServerMechanism:
    """Make the server's side of ANONYMOUS for one connection."""
    return AnonymousServer()


def plain(verify: Callable[[str, str], bool]) -> ServerMechanism:
    """Make the server's side of PLAIN for one connection; `verify(user, password)` decides."""
    return PlainServer(verify)


def external(identity: str | None) -> ServerMechanism:
    """Make the server's side of EXTERNAL for one connection; `identity` is the name in the client's certificate."""
    return ExternalServer(identity)


def _refuse_challenge(name: str, data: bytes) -> None:
    if data:
        raise SaslError(f"{name} knows no challenge, but the server sent one")


class AnonymousClient:
    """ANONYMOUS: come in as nobody."""

    __slots__ = ("identity", "name", "reveals_password", "strength")

    def __init__(self) -> None:
        self.name = "ANONYMOUS"
        self.strength = 0
        self.reveals_password = False
        self.identity = ""

    def start(self) -> bytes | None:
        return b""

    def step(self, data: bytes) -> bytes:
        _refuse_challenge(self.name, data)
        return b""

    def finish(self, data: bytes | None) -> None:
        pass


class PlainClient:
    """PLAIN: show user and password. Neither may be empty or contain NUL (`ValueError`)."""

    __slots__ = ("_message", "identity", "name", "reveals_password", "strength")

    def __init__(self, user: str, password: str) -> None:
        if not user or not password or "\0" in user or "\0" in password:
            raise ValueError("PLAIN needs a user and a password, both without NUL")
        self.name = "PLAIN"
        self.strength = 10
        self.reveals_password = True
        self.identity = user
        self._message = f"\0{user}\0{password}".encode()

    def start(self) -> bytes | None:
        return self._message

    def step(self, data: bytes) -> bytes:
        _refuse_challenge(self.name, data)
        return self._message

    def finish(self, data: bytes | None) -> None:
        pass


class ExternalClient:
    """EXTERNAL: be who the client certificate of the TLS handshake says."""

    __slots__ = ("identity", "name", "reveals_password", "strength")

    def __init__(self) -> None:
        self.name = "EXTERNAL"
        self.strength = 40
        self.reveals_password = False
        self.identity = ""

    def start(self) -> bytes | None:
        return b""

    def step(self, data: bytes) -> bytes:
        _refuse_challenge(self.name, data)
        return b""

    def finish(self, data: bytes | None) -> None:
        pass
