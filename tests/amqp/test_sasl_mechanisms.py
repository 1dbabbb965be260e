"""Every SASL mechanism, our client against our server: who comes in, as whom, and who does not."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from van.amqp.composite import Composite
from van.amqp.sasl import (
    AnonymousClient,
    ClientMechanism,
    ExternalClient,
    PlainClient,
    SaslClient,
    SaslError,
    SaslServer,
    ServerMechanism,
    anonymous,
    external,
    plain,
)
from van.amqp.sasl_frames import (
    SASL_CODE_AUTH,
    SASL_CODE_OK,
    SASL_CODE_SYS_TEMP,
    SaslChallenge,
    SaslInit,
    SaslMechanisms,
    SaslOutcome,
    SaslResponse,
)
from van.amqp.types import Symbol, UByte
from van.transport.scram import (
    MAX_ITERATIONS,
    SCRAM_HASHES,
    Credentials,
    ScramClient,
    derive_credentials,
    scram_server,
)

SALT = b"sixteen octets!!"
USERS = {"alice": "pencil", "zoë=,": "pass\N{LATIN SMALL LIGATURE FI}x"}
KEYS = {
    name: {user: derive_credentials(name, password, SALT) for user, password in USERS.items()} for name in SCRAM_HASHES
}


def verify(user: str, password: str) -> bool:
    return USERS.get(user) == password


def scram(name: str, credentials: Callable[[str], Credentials | None] | None = None) -> ServerMechanism:
    return scram_server(name, credentials or KEYS[name].get, lambda: "server-nonce", b"a key of this process")


def run(client: SaslClient, server: SaslServer) -> list[Composite]:
    """Hand everything across until both are silent; return what crossed."""
    crossed: list[Composite] = []
    to_client, to_server = server.start(), client.start()
    while to_client or to_server:
        crossed += to_client + to_server
        to_server, to_client = (
            [answer for performative in to_client for answer in client.receive(performative)],
            [answer for performative in to_server for answer in server.receive(performative)],
        )
    return crossed


def exchange(client: ClientMechanism, server: ServerMechanism) -> tuple[SaslClient, SaslServer]:
    ours, theirs = SaslClient([client], encrypted=True), SaslServer([server])
    run(ours, theirs)
    assert ours.done
    return ours, theirs


def test_anonymous() -> None:
    client, server = exchange(AnonymousClient(), anonymous())
    assert client.succeeded
    assert server.succeeded
    assert (server.mechanism, server.identity) == ("ANONYMOUS", "")


@pytest.mark.parametrize("trace", [None, b"", b"\0anonymous", b"me@example.com", b"\xff\xfe"])
def test_anonymous_whatever_the_trace(trace: bytes | None) -> None:
    server = SaslServer([anonymous()])
    assert server.receive(SaslInit(mechanism=Symbol("ANONYMOUS"), initial_response=trace)) == [
        SaslOutcome(code=UByte(SASL_CODE_OK))
    ]


@pytest.mark.parametrize("user", USERS)
def test_plain(user: str) -> None:
    client, server = exchange(PlainClient(user, USERS[user]), plain(verify))
    assert client.succeeded
    assert (server.succeeded, server.mechanism, server.identity) == (True, "PLAIN", user)


@pytest.mark.parametrize(("user", "password"), [("alice", "pencil "), ("mallory", "pencil")])
def test_plain_refuses_a_wrong_password_like_an_unknown_user(user: str, password: str) -> None:
    client, server = exchange(PlainClient(user, password), plain(verify))
    assert (client.code, client.succeeded, server.succeeded, server.identity) == (SASL_CODE_AUTH, False, False, "")
    assert user in server.error
    assert password not in server.error


@pytest.mark.parametrize(
    ("message", "identity"),
    [
        (b"\0alice\0pencil", "alice"),
        (b"alice\0alice\0pencil", "alice"),
        (b"root\0alice\0pencil", None),
        (b"alice\0pencil", None),
        (b"\0alice\0pencil\0", None),
        (b"\0alice\0", None),
        (b"\0\0pencil", None),
        (b"\0alice\0\xff", None),
        (b"", None),
    ],
)
def test_plain_messages(message: bytes, identity: str | None) -> None:
    server = SaslServer([plain(verify)])
    server.receive(SaslInit(mechanism=Symbol("PLAIN"), initial_response=message))
    assert server.done
    assert (server.identity or None) == identity


@pytest.mark.parametrize(("user", "password"), [("", "x"), ("x", ""), ("a\0b", "x"), ("x", "a\0b")])
def test_plain_cannot_carry_these(user: str, password: str) -> None:
    with pytest.raises(ValueError, match="NUL"):
        PlainClient(user, password)


def test_external() -> None:
    client, server = exchange(ExternalClient(), external("CN=alice"))
    assert client.succeeded
    assert (server.mechanism, server.identity) == ("EXTERNAL", "CN=alice")


@pytest.mark.parametrize(
    ("certified", "message", "succeeded"),
    [
        ("alice", None, True),
        ("alice", b"alice", True),
        ("alice", b"root", False),
        ("alice", b"\xff", False),
        (None, b"", False),
        (None, b"alice", False),
        ("", b"", False),
    ],
)
def test_external_messages(certified: str | None, message: bytes | None, succeeded: bool) -> None:
    server = SaslServer([external(certified)])
    server.receive(SaslInit(mechanism=Symbol("EXTERNAL"), initial_response=message))
    assert (server.done, server.succeeded) == (True, succeeded)


@pytest.mark.parametrize("name", SCRAM_HASHES)
class TestScram:
    def client(self, name: str, user: str, password: str) -> ScramClient:
        return ScramClient(name, user, password, lambda: "client-nonce")

    @pytest.mark.parametrize("user", USERS)
    def test_the_right_password(self, name: str, user: str) -> None:
        client, server = exchange(self.client(name, user, USERS[user]), scram(name))
        assert client.succeeded
        assert (server.succeeded, server.mechanism, server.identity) == (True, name, user)

    def test_the_password_never_crosses(self, name: str) -> None:
        crossed = run(SaslClient([self.client(name, "alice", "pencil")]), SaslServer([scram(name)]))
        assert len(crossed) == 5
        assert b"pencil" not in b"".join(performative.encode() for performative in crossed)

    def test_the_servers_proof_may_come_as_a_challenge_of_its_own(self, name: str) -> None:
        client, server = SaslClient([self.client(name, "alice", "pencil")]), SaslServer([scram(name)])
        (init,) = client.receive(*server.start())
        (response,) = client.receive(*server.receive(init))
        (outcome,) = server.receive(response)
        assert isinstance(outcome, SaslOutcome)
        assert outcome.additional_data is not None
        assert client.receive(SaslChallenge(challenge=outcome.additional_data)) == [SaslResponse(response=b"")]
        client.receive(SaslOutcome(code=UByte(SASL_CODE_OK)))
        assert client.succeeded

    @pytest.mark.parametrize("proof", [None, b"", b"v=AAAA", b"e=other-error", b"nonsense", b"\xff"])
    def test_a_server_that_cannot_prove_itself_is_not_trusted(self, name: str, proof: bytes | None) -> None:
        client, server = SaslClient([self.client(name, "alice", "pencil")]), SaslServer([scram(name)])
        (init,) = client.receive(*server.start())
        client.receive(*server.receive(init))
        client.receive(SaslOutcome(code=UByte(SASL_CODE_OK), additional_data=proof))
        assert (client.done, client.succeeded, client.identity) == (True, False, "")

    def test_a_server_that_lets_us_in_before_the_exchange_is_not_trusted(self, name: str) -> None:
        client = SaslClient([self.client(name, "alice", "pencil")])
        client.receive(SaslMechanisms(sasl_server_mechanisms=[Symbol(name)]))
        client.receive(SaslOutcome(code=UByte(SASL_CODE_OK), additional_data=b"v=AAAA"))
        assert not client.succeeded

    def test_unknown_users_and_wrong_passwords_look_the_same(self, name: str) -> None:
        seen = []
        for user in ("alice", "mallory"):
            crossed = run(SaslClient([self.client(name, user, "wrong")]), SaslServer([scram(name)]))
            challenge = crossed[2]
            assert isinstance(challenge, SaslChallenge)
            nonce, salt, iterations = challenge.challenge.split(b",")
            seen.append((nonce, len(base64.b64decode(salt[2:])), iterations, crossed[-1]))
        assert seen[0] == seen[1]
        assert seen[0][-1] == SaslOutcome(code=UByte(SASL_CODE_AUTH))

    def test_an_unknown_user_always_has_the_same_salt(self, name: str) -> None:
        challenges = set()
        for user in ("mallory", "mallory", "trudy"):
            crossed = run(SaslClient([self.client(name, user, "wrong")]), SaslServer([scram(name)]))
            assert isinstance(crossed[2], SaslChallenge)
            challenges.add(crossed[2].challenge)
        assert len(challenges) == 2

    @pytest.mark.parametrize(
        "first",
        [b"", b"\xff", b"n,,", b"n,,n=alice", b"n,,r=x,n=alice", b"n,,n=al=ice,r=x", b"p=tls-unique,,n=alice,r=x",
         b"n,a=root,n=alice,r=x", b"n,,n=,r=x", b"n,,n=\x07,r=x", b"n,,m=x,n=alice,r=x", b"n,,n=alice,r=\xc3\xa9"],
    )  # fmt: skip
    def test_a_malformed_first_message_is_refused_in_order(self, name: str, first: bytes) -> None:
        server = SaslServer([scram(name)])
        server.receive(SaslInit(mechanism=Symbol(name), initial_response=first))
        if not server.done:
            server.receive(SaslResponse(response=b"nonsense"))
        assert (server.done, server.succeeded) == (True, False)
        assert server.error

    @pytest.mark.parametrize(
        "final",
        [b"", b"\xff", b"c=biws,r=client-nonceserver-nonce,p=AAAA", b"c=biws,r=other,p=AAAA", b"c=eSws,r=x,p=AAAA",
         b"c=!,r=client-nonceserver-nonce,p=AAAA", b"c=biws,r=client-nonceserver-nonce,p=!"],
    )  # fmt: skip
    def test_a_malformed_final_message_is_refused_in_order(self, name: str, final: bytes) -> None:
        server = SaslServer([scram(name)])
        server.receive(SaslInit(mechanism=Symbol(name), initial_response=b"n,,n=alice,r=client-nonce"))
        server.receive(SaslResponse(response=final))
        assert (server.done, server.succeeded, server.identity) == (True, False, "")

    def test_a_fault_while_looking_a_user_up_comes_out_as_it_is(self, name: str) -> None:
        def unreadable(user: str) -> Credentials | None:
            raise SaslError("the users file cannot be read", SASL_CODE_SYS_TEMP)

        server = SaslServer([scram(name, unreadable)])
        init = SaslInit(mechanism=Symbol(name), initial_response=b"n,,n=alice,r=client-nonce")
        assert server.receive(init) == [SaslOutcome(code=UByte(SASL_CODE_SYS_TEMP))]

    @pytest.mark.parametrize(
        "first",
        [b"\xff", b"nonsense", b"e=other-error", b"r=other,s=c2l4dGVlbiBvY3RldHMhIQ==,i=4096",
         b"r=client-nonce1,s=c2l4dGVlbiBvY3RldHMhIQ==,i=1", b"r=client-nonce,s=c2l4dGVlbiBvY3RldHMhIQ==,i=4096",
         b"r=client-nonce1,s=c2l4dGVlbiBvY3RldHMhIQ==,i=%d" % (MAX_ITERATIONS + 1)],
    )  # fmt: skip
    def test_a_client_gives_up_on_a_server_that_talks_nonsense_or_asks_too_much(self, name: str, first: bytes) -> None:
        client = SaslClient([self.client(name, "alice", "pencil")])
        client.receive(SaslMechanisms(sasl_server_mechanisms=[Symbol(name)]))
        assert client.receive(SaslChallenge(challenge=first)) == []
        assert (client.done, client.succeeded) == (True, False)
        assert client.error

    def test_names_and_passwords_that_saslprep_forbids(self, name: str) -> None:
        with pytest.raises(ValueError, match="forbidden"):
            self.client(name, "alice\x07", "pencil")
        with pytest.raises(ValueError, match="forbidden"):
            derive_credentials(name, "pencil\x07", SALT)


def test_scram_knows_only_its_own_names() -> None:
    with pytest.raises(ValueError, match="SCRAM-SHA-1 is not one of"):
        scram_server("SCRAM-SHA-1", lambda user: None, lambda: "n", b"k")
    with pytest.raises(ValueError, match="SCRAM-SHA-1 is not one of"):
        ScramClient("SCRAM-SHA-1", "alice", "pencil", lambda: "n")


def test_scram_sha_256_test_vector_of_rfc_7677() -> None:
    client = ScramClient("SCRAM-SHA-256", "user", "pencil", lambda: "rOprNGfwEbeRWgbNEkqO")
    keys = derive_credentials("SCRAM-SHA-256", "pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    server = scram_server(
        "SCRAM-SHA-256", {"user": keys}.get, lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", b"a key of this process"
    )
    client_first = client.start()
    assert client_first == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    server_first = server.step(client_first)
    assert server_first == (b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    client_final = client.step(server_first)
    assert client_final == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert server.step(client_final) is None
    assert server.additional_data == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    client.finish(server.additional_data)


@settings(max_examples=100, deadline=None)
@given(user=st.text(min_size=1, max_size=20), password=st.text(min_size=1, max_size=20))
def test_plain_carries_every_name_and_password(user: str, password: str) -> None:
    try:
        client = PlainClient(user, password)
    except ValueError:
        assert "\0" in user + password
        return
    _, server = exchange(client, plain(lambda *given: given == (user, password)))
    assert server.identity == user


class AnExchange(RuleBasedStateMachine):
    """A client and a server with a wire that may hold things back and change them.

    Whatever happens to what crosses: the server never lets somebody in who has not the password, and if nothing was
    changed, both agree in the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.client: SaslClient | None = None
        self.server: SaslServer | None = None
        self.to_client: list[Composite] = []
        self.to_server: list[Composite] = []
        self.changed = False
        self.entitled = False

    @precondition(lambda self: self.client is None or not (self.to_client or self.to_server))
    @rule(
        names=st.lists(st.sampled_from(["PLAIN", *SCRAM_HASHES]), min_size=1, unique=True),
        user=st.sampled_from(["alice", "mallory"]),
        password=st.sampled_from(["pencil", "wrong"]),
    )
    def connect(self, names: list[str], user: str, password: str) -> None:
        scram_names = [name for name in names if name != "PLAIN"]
        mechanisms: list[ClientMechanism] = [ScramClient(name, user, password, lambda: "c") for name in scram_names]
        if "PLAIN" in names:
            mechanisms.append(PlainClient(user, password))
        self.client = SaslClient(mechanisms, encrypted=True)
        self.server = SaslServer([plain(verify), *(scram(name) for name in SCRAM_HASHES)])
        self.to_client = list(self.server.start())
        self.changed = False
        self.entitled = verify(user, password)

    @precondition(lambda self: self.to_client)
    @rule()
    def deliver_to_client(self) -> None:
        assert self.client is not None
        self.to_server += self._receive(self.client, self.to_client.pop(0))

    @precondition(lambda self: self.to_server)
    @rule()
    def deliver_to_server(self) -> None:
        assert self.server is not None
        self.to_client += self._receive(self.server, self.to_server.pop(0))

    def _receive(self, receiver: SaslClient | SaslServer, performative: Composite) -> list[Composite]:
        if receiver.done:  # the connection is closed
            return []
        return list(receiver.receive(performative))

    @precondition(lambda self: self.to_server)
    @rule(position=st.integers(0, 200), octet=st.integers(1, 255))
    def change_an_octet_to_the_server(self, position: int, octet: int) -> None:
        performative = self.to_server[0]
        if isinstance(performative, SaslInit) and performative.initial_response:
            performative.initial_response = self._change(performative.initial_response, position, octet)
        elif isinstance(performative, SaslResponse) and performative.response:
            performative.response = self._change(performative.response, position, octet)

    @precondition(lambda self: self.to_client)
    @rule(position=st.integers(0, 200), octet=st.integers(1, 255))
    def change_an_octet_to_the_client(self, position: int, octet: int) -> None:
        performative = self.to_client[0]
        if isinstance(performative, SaslChallenge) and performative.challenge:
            performative.challenge = self._change(performative.challenge, position, octet)

    def _change(self, data: bytes, position: int, octet: int) -> bytes:
        self.changed = True
        position %= len(data)
        return data[:position] + bytes([data[position] ^ octet]) + data[position + 1 :]

    @invariant()
    def only_the_entitled_come_in(self) -> None:
        if self.server is not None and self.server.succeeded:
            assert self.entitled or self.changed
            assert self.server.identity == "alice"

    @invariant()
    def both_agree_when_nothing_was_changed(self) -> None:
        if (
            self.client is not None
            and self.server is not None
            and not self.changed
            and self.client.done
            and self.server.done
        ):
            assert self.client.succeeded == self.server.succeeded == self.entitled
            assert self.client.mechanism == self.server.mechanism


AnExchange.TestCase.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)
TestAnExchange = AnExchange.TestCase
