"""Which SASL performative may follow which, how often and how large (part 5, section 3.2), for both roles."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from van.amqp.errors import AmqpError, ErrorCondition
from van.amqp.sasl import (
    DONE,
    MAX_SASL_DATA_SIZE,
    MAX_SASL_ROUNDS,
    AnonymousClient,
    ClientMechanism,
    ExternalClient,
    PlainClient,
    SaslClient,
    SaslError,
    SaslServer,
    anonymous,
    external,
    plain,
)
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
from van.transport.scram import ScramClient, derive_credentials, scram_server

CREDENTIALS = derive_credentials("SCRAM-SHA-256", "pencil", b"sixteen octets!!")


class Endless:
    """A mechanism, both roles, that never comes to an end."""

    def __init__(self) -> None:
        self.name = "ENDLESS"
        self.client_first = True
        self.identity = ""
        self.additional_data: bytes | None = None
        self.strength = 99
        self.reveals_password = False

    def start(self) -> bytes | None:
        return b"first"

    def step(self, data: bytes) -> bytes:
        return data + b"."

    def finish(self, data: bytes | None) -> None:
        raise AssertionError("never finished")


def init(mechanism: str, initial_response: bytes | None = None) -> SaslInit:
    return SaslInit(mechanism=Symbol(mechanism), initial_response=initial_response)


def breach(exchange: SaslServer | SaslClient, performative: object) -> AmqpError:
    with pytest.raises(AmqpError) as caught:
        exchange.receive(performative)
    return caught.value


class TestServer:
    def test_offers_its_mechanisms_in_their_order(self) -> None:
        (offer,) = SaslServer([external("alice"), plain(lambda user, password: True), anonymous()]).start()
        assert isinstance(offer, SaslMechanisms)
        assert offer.sasl_server_mechanisms == ["EXTERNAL", "PLAIN", "ANONYMOUS"]

    def test_needs_something_to_offer(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            SaslServer([])

    @pytest.mark.parametrize(
        "performative",
        [
            SaslResponse(response=b""),
            SaslChallenge(challenge=b""),
            SaslMechanisms(sasl_server_mechanisms=[Symbol("PLAIN")]),
            SaslOutcome(code=UByte(0)),
            "not a performative at all",
        ],
        ids=lambda performative: type(performative).__name__,
    )
    def test_only_an_init_opens_the_exchange(self, performative: object) -> None:
        server = SaslServer([anonymous()])
        server.start()
        assert breach(server, performative).condition == ErrorCondition.ILLEGAL_STATE

    def test_a_second_init_is_a_breach_while_challenged(self) -> None:
        server = SaslServer([Endless()])
        server.receive(init("ENDLESS", b"x"))
        assert breach(server, init("ENDLESS", b"x")).condition == ErrorCondition.ILLEGAL_STATE

    @pytest.mark.parametrize("password", ["right", "wrong"])
    def test_nothing_is_allowed_after_the_outcome_so_there_is_one_attempt_per_connection(self, password: str) -> None:
        server = SaslServer([plain(lambda user, password: password == "right")])
        server.receive(init("PLAIN", f"\0alice\0{password}".encode()))
        assert server.done
        assert server.state == DONE
        breach(server, init("PLAIN", b"\0alice\0right"))
        breach(server, SaslResponse(response=b"\0alice\0right"))

    def test_a_mechanism_that_was_not_offered_is_refused_in_order(self) -> None:
        server = SaslServer([external("alice")])
        assert server.receive(init("ANONYMOUS")) == [SaslOutcome(code=UByte(SASL_CODE_AUTH))]
        assert (server.done, server.succeeded, server.identity) == (True, False, "")
        assert "ANONYMOUS" in server.error

    def test_a_client_that_speaks_first_but_did_not_is_asked_with_an_empty_challenge(self) -> None:
        server = SaslServer([plain(lambda user, password: True)])
        assert server.receive(init("PLAIN")) == [SaslChallenge(challenge=b"")]
        assert server.receive(SaslResponse(response=b"\0alice\0pw")) == [SaslOutcome(code=UByte(SASL_CODE_OK))]
        assert server.identity == "alice"

    def test_the_hostname_of_the_init_is_kept(self) -> None:
        server = SaslServer([anonymous()])
        server.receive(SaslInit(mechanism=Symbol("ANONYMOUS"), hostname="east.example"))
        assert server.hostname == "east.example"

    def test_an_exchange_without_end_is_cut_off(self) -> None:
        server = SaslServer([Endless()])
        server.receive(init("ENDLESS", b"x"))
        for _ in range(MAX_SASL_ROUNDS - 1):
            server.receive(SaslResponse(response=b"x"))
        assert breach(server, SaslResponse(response=b"x")).condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED

    def test_a_step_that_is_too_large_is_a_breach(self) -> None:
        too_much = bytes(MAX_SASL_DATA_SIZE + 1)
        breach(SaslServer([anonymous()]), init("ANONYMOUS", too_much))
        server = SaslServer([Endless()])
        server.receive(init("ENDLESS", b"x"))
        assert breach(server, SaslResponse(response=too_much)).condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED

    def test_a_step_that_would_make_our_answer_too_large_is_a_breach(self) -> None:
        breach(SaslServer([Endless()]), init("ENDLESS", bytes(MAX_SASL_DATA_SIZE)))

    def test_a_mechanism_chooses_the_code_of_its_refusal(self) -> None:
        def out_of_order(user: str, password: str) -> bool:
            raise SaslError("the users file cannot be read", SASL_CODE_SYS_TEMP)

        server = SaslServer([plain(out_of_order)])
        assert server.receive(init("PLAIN", b"\0a\0b")) == [SaslOutcome(code=UByte(SASL_CODE_SYS_TEMP))]
        assert not server.succeeded
        assert server.error == "the users file cannot be read"

    def test_a_fault_of_ours_is_not_mistaken_for_a_refusal(self) -> None:
        server = SaslServer([plain(lambda user, password: 1 // 0 == 0)])
        with pytest.raises(ZeroDivisionError):
            server.receive(init("PLAIN", b"\0a\0b"))


class TestClient:
    def offered(self, client: SaslClient, *names: str) -> list[object]:
        assert client.start() == []
        return list(client.receive(SaslMechanisms(sasl_server_mechanisms=[Symbol(name) for name in names])))

    @pytest.mark.parametrize(
        "performative",
        [SaslResponse(response=b""), SaslChallenge(challenge=b""), SaslOutcome(code=UByte(0)), init("PLAIN"), None],
        ids=lambda performative: type(performative).__name__,
    )
    def test_only_mechanisms_open_the_exchange(self, performative: object) -> None:
        client = SaslClient([AnonymousClient()])
        assert breach(client, performative).condition == ErrorCondition.ILLEGAL_STATE

    def test_uses_the_strongest_of_its_own_that_is_offered(self) -> None:
        ours: list[ClientMechanism] = [
            AnonymousClient(),
            PlainClient("alice", "pencil"),
            ScramClient("SCRAM-SHA-256", "alice", "pencil", lambda: "nonce"),
            ScramClient("SCRAM-SHA-512", "alice", "pencil", lambda: "nonce"),
            ExternalClient(),
        ]
        offers = ["ANONYMOUS", "GSSAPI", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "EXTERNAL"]
        chosen = []
        while offers:
            client = SaslClient(ours, encrypted=True)
            self.offered(client, *offers)
            chosen.append(client.mechanism)
            offers.pop()
        assert chosen == ["EXTERNAL", "SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "ANONYMOUS", "ANONYMOUS"]

    def test_never_shows_a_password_on_an_open_line(self) -> None:
        client = SaslClient([PlainClient("alice", "pencil")])
        assert self.offered(client, "PLAIN") == []
        assert (client.done, client.succeeded) == (True, False)
        assert "not encrypted" in client.error

    def test_prefers_coming_in_as_nobody_over_showing_a_password_on_an_open_line(self) -> None:
        client = SaslClient([PlainClient("alice", "pencil"), AnonymousClient()])
        self.offered(client, "PLAIN", "ANONYMOUS")
        assert client.mechanism == "ANONYMOUS"

    def test_shows_its_password_on_an_open_line_if_told(self) -> None:
        client = SaslClient([PlainClient("alice", "pencil")], hostname="east", allow_insecure_plain=True)
        assert self.offered(client, "PLAIN") == [
            SaslInit(mechanism=Symbol("PLAIN"), initial_response=b"\0alice\0pencil", hostname="east")
        ]

    def test_gives_up_when_nothing_is_in_common(self) -> None:
        client = SaslClient([ExternalClient()])
        assert self.offered(client, "PLAIN", "GSSAPI") == []
        assert client.done
        assert client.error == "the server offers PLAIN, GSSAPI; we have EXTERNAL"

    def test_mechanisms_twice_are_a_breach(self) -> None:
        client = SaslClient([AnonymousClient()])
        self.offered(client, "ANONYMOUS")
        breach(client, SaslMechanisms(sasl_server_mechanisms=[Symbol("ANONYMOUS")]))

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            (SASL_CODE_AUTH, "authentication failed"),
            (SASL_CODE_SYS, "the peer had a system error"),
            (SASL_CODE_SYS_PERM, "the peer had a permanent system error"),
            (SASL_CODE_SYS_TEMP, "the peer had a temporary system error"),
        ],
    )
    def test_keeps_the_code_of_a_bad_outcome(self, code: int, error: str) -> None:
        client = SaslClient([AnonymousClient()])
        self.offered(client, "ANONYMOUS")
        assert client.receive(SaslOutcome(code=UByte(code))) == []
        assert (client.done, client.succeeded, client.code, client.error) == (True, False, code, error)

    def test_a_code_that_does_not_exist_is_a_breach(self) -> None:
        client = SaslClient([AnonymousClient()])
        self.offered(client, "ANONYMOUS")
        assert breach(client, SaslOutcome(code=UByte(5))).condition == ErrorCondition.INVALID_FIELD

    @pytest.mark.parametrize("mechanism", [AnonymousClient(), ExternalClient(), PlainClient("alice", "pencil")])
    def test_answers_an_empty_challenge_but_no_other(
        self, mechanism: AnonymousClient | ExternalClient | PlainClient
    ) -> None:
        client = SaslClient([mechanism], encrypted=True)
        self.offered(client, mechanism.name)
        assert client.receive(SaslChallenge(challenge=b"")) == [SaslResponse(response=mechanism.start() or b"")]
        assert client.receive(SaslChallenge(challenge=b"who?")) == []
        assert (client.done, client.succeeded) == (True, False)

    def test_an_exchange_without_end_is_cut_off(self) -> None:
        client = SaslClient([Endless()])
        self.offered(client, "ENDLESS")
        for _ in range(MAX_SASL_ROUNDS):
            client.receive(SaslChallenge(challenge=b"x"))
        assert breach(client, SaslChallenge(challenge=b"x")).condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED

    def test_a_challenge_that_is_too_large_is_a_breach(self) -> None:
        client = SaslClient([Endless()])
        self.offered(client, "ENDLESS")
        breach(client, SaslChallenge(challenge=bytes(MAX_SASL_DATA_SIZE + 1)))


# Whatever a peer sends, in whatever order: an answer or an AmqpError, and nobody comes in without the password.

DATA = st.one_of(
    st.binary(max_size=40),
    st.binary(min_size=MAX_SASL_DATA_SIZE - 2, max_size=MAX_SASL_DATA_SIZE + 2),
    st.sampled_from([b"\0alice\0wrong", b"bob\0alice\0wrong", b"n,,n=alice,r=abc", b"y,,n=alice,r=abc",
                     b"n,,n=mallory,r=abc", b"c=biws,r=abcsnonce,p=AAAA",
                     b"r=cnonce1,s=c2l4dGVlbiBvY3RldHMhIQ==,i=4096",
                     b"v=AAAA", b"e=other-error", b"c=biws,r=abcsnonce,p=" + b"A" * 43 + b"="]),
)  # fmt: skip
NAMES = st.sampled_from(["ANONYMOUS", "PLAIN", "EXTERNAL", "SCRAM-SHA-256", "SCRAM-SHA-512", "", "GSSAPI"])
PERFORMATIVES = st.one_of(
    st.builds(SaslInit, mechanism=NAMES.map(Symbol), initial_response=st.none() | DATA),
    st.builds(SaslResponse, response=DATA),
    st.builds(SaslChallenge, challenge=DATA),
    st.builds(SaslOutcome, code=st.integers(0, 255).map(UByte), additional_data=st.none() | DATA),
    st.builds(SaslMechanisms, sasl_server_mechanisms=st.lists(NAMES.map(Symbol), max_size=4)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PERFORMATIVES, max_size=6))
def test_nobody_talks_a_server_into_letting_them_in(performatives: list[object]) -> None:
    server = SaslServer(
        [
            plain(lambda user, password: False),
            external(None),
            scram_server("SCRAM-SHA-256", {"alice": CREDENTIALS}.get, lambda: "snonce", b"key"),
            scram_server("SCRAM-SHA-512", lambda user: None, lambda: "snonce", b"key"),
        ]
    )
    server.start()
    for performative in performatives:
        try:
            answer = server.receive(performative)
        except AmqpError:
            break
        assert len(answer) == 1
        assert server.done == isinstance(answer[0], SaslOutcome)
    assert not server.succeeded
    assert not server.identity


@settings(max_examples=200, deadline=None)
@given(st.lists(PERFORMATIVES, max_size=6))
def test_no_server_talks_a_scram_client_into_trusting_it(performatives: list[object]) -> None:
    client = SaslClient(
        [ScramClient(name, "alice", "pencil", lambda: "cnonce") for name in ("SCRAM-SHA-256", "SCRAM-SHA-512")]
    )
    for performative in performatives:
        try:
            answer = client.receive(performative)
        except AmqpError:
            break
        assert not (client.done and answer)
    assert not client.succeeded
