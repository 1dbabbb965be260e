"""Rules between keys of a site file, and defaults that depend on other keys.

Each rule is a function that looks at what could be read and yields the problems that it sees. What the rules protect:
nobody is let in by accident, no password crosses a network in the clear, and what cannot work fails before it starts.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs

from van.router.positions import KeyPath
from van.router.sections import (
    BROKER_ROLE,
    MAX_LINKS,
    MAX_SESSION_FRAMES,
    PASSWORD_MECHANISMS,
    ROUTER_MAX_LINKS,
    ROUTER_MAX_SESSION_FRAMES,
    ROUTER_ROLES,
    SMALLEST_MEMORY_LIMIT,
    AutoLinkConfig,
    ConnectionConfig,
    ConnectorConfig,
    ListenerConfig,
    RouterConfig,
    ServiceConfig,
    SslProfileConfig,
)
from van.router.values import Problem, did_you_mean, is_loopback, listing, show
from van.routing.address import AddressConfig, Distribution, PatternTable, strip_address
from van.transport.service_url import ServiceUrl
from van.transport.url import Url

_Entry = TypeVar("_Entry", bound=ConnectionConfig)


@attrs.define
class Found:
    """What could be read of a site file.

    Single sections, entries of repeated ones by index, those as written, and the paths of the keys that are wrong:
    in their place stand defaults.
    """

    single: dict[str, Any] = attrs.Factory(dict)
    repeated: dict[str, dict[int, Any]] = attrs.Factory(dict)
    raw: dict[str, list[dict[str, Any]]] = attrs.Factory(dict)
    wrong: set[KeyPath] = attrs.Factory(set)

    def entries(self, section: str) -> list[Any]:
        return list(self.repeated.get(section, {}).values())

    def is_wrong(self, *path: str | int) -> bool:
        """Whether this key, or what holds it, could not be read."""
        return any(path[:length] in self.wrong for length in range(1, len(path) + 1))

    def located(self, section: str) -> Iterator[tuple[KeyPath, Any]]:
        for index, entry in self.repeated.get(section, {}).items():
            yield (section, index), entry


def check(found: Found) -> list[Problem]:
    """Everything that is wrong between keys."""
    problems = [
        *_unique_names(found),
        *_unique_ports(found),
        *_unique_patterns(found),
        *_auto_links(found),
        *_budget(found),
        *_router_id(found.single["router"]),
        *_workers(found.single["router"]),
        *_timers(found),
    ]
    for path, profile in found.located("ssl_profile"):
        problems += list(_certificates(path, profile)) or list(_usable(path, profile))
    mode_known = not found.is_wrong("router", "mode")
    for section in ("listener", "connector"):
        for path, entry in found.located(section):
            problems += _role(path, entry, found.single["router"].mode) if mode_known else []
    for path, listener in found.located("listener"):
        problems += _listener_tls(path, listener, found)
        problems += _listener_authentication(path, listener, found)
    for path, connector in found.located("connector"):
        problems += _connector_tls(path, connector, found)
        problems += _connector_authentication(path, connector, found)
    # What only a default in a wrong key's place causes is no news.
    return [problem for problem in problems if not found.is_wrong(*problem.path)]


def warnings(found: Found) -> Iterator[str]:
    """What is allowed and may not be meant."""
    for (_, index), listener in found.located("listener"):
        if "PLAIN" in listener.sasl_mechanisms and _plain_is_withheld(listener):
            yield f"listener[{index}] {listener.url} does not offer PLAIN: no TLS, and allow_insecure_plain is false"
        if listener.allow_insecure_plain and not listener.url.tls and not is_loopback(listener.url):
            yield f"listener[{index}] {listener.url} takes passwords over an unencrypted network"
        if listener.role in ROUTER_ROLES and not is_loopback(listener.url) and _takes_anonymous(listener):
            yield (
                f"listener[{index}] {listener.url} has role {listener.role} and takes ANONYMOUS: "
                "any router that reaches it may join the network"
            )
        if listener.role == BROKER_ROLE and not is_loopback(listener.url) and _takes_anonymous(listener):
            yield (
                f"listener[{index}] {listener.url} has role {BROKER_ROLE} and takes ANONYMOUS: "
                "any program that reaches it may stand in for a broker"
            )
    yield from _no_brokers(found)
    yield from _broker_circles(found)
    if not any(found.entries(section) for section in ("listener", "connector", "service")):
        yield "no listener and no connector: nobody can reach this router"
    yield from _lonely(found)


def _lonely(found: Found) -> Iterator[str]:
    """A router that was meant to have others around it, and has no way to them."""
    entries = [*found.entries("listener"), *found.entries("connector")]
    mode = found.single["router"].mode
    if mode == "interior" and entries and not any(entry.role in ROUTER_ROLES for entry in entries):
        yield "mode interior, and no listener or connector has role inter-router or edge: this router stands alone"
    if mode == "edge" and not any(entry.role == "edge" for entry in found.entries("connector")):
        yield "mode edge, and no connector has role edge: this router stands alone"


def _takes_anonymous(listener: ListenerConfig) -> bool:
    return "ANONYMOUS" in listener.sasl_mechanisms and not listener.authenticate_peer


def _plain_is_withheld(listener: ListenerConfig) -> bool:
    return not listener.url.tls and not listener.allow_insecure_plain


def complete_listener(listener: ListenerConfig) -> ListenerConfig:
    """Fill in the mechanisms of a listener on loopback, and the limits of its role."""
    listener = _with_limits(listener)
    return listener if listener.sasl_mechanisms else attrs.evolve(listener, sasl_mechanisms=("ANONYMOUS",))


def complete_connector(connector: ConnectorConfig, profiles: dict[str, SslProfileConfig]) -> ConnectorConfig:
    """Fill in the mechanisms that a connector has the means for, the strongest first, and the limits of its role."""
    connector = _with_limits(connector)
    if connector.sasl_mechanisms:
        return connector
    mechanisms: list[str] = []
    profile = profiles.get(connector.ssl_profile or "")
    if profile is not None and profile.cert_file is not None:
        mechanisms.append("EXTERNAL")
    if connector.sasl_username is not None:
        mechanisms += ("SCRAM-SHA-512", "SCRAM-SHA-256")
        if connector.allow_insecure_plain or all(url.tls for url in (connector.url, *connector.failover_urls)):
            mechanisms.append("PLAIN")
    return attrs.evolve(connector, sasl_mechanisms=tuple(mechanisms) or ("ANONYMOUS",))


def _with_limits(entry: _Entry) -> _Entry:
    between_routers = entry.role in ROUTER_ROLES
    return attrs.evolve(
        entry,
        max_session_frames=entry.max_session_frames
        or (ROUTER_MAX_SESSION_FRAMES if between_routers else MAX_SESSION_FRAMES),
        max_links=entry.max_links or (ROUTER_MAX_LINKS if between_routers else MAX_LINKS),
    )


def _role(path: KeyPath, entry: ConnectionConfig, mode: str) -> Iterator[Problem]:
    """Which roles the router's mode allows. Applications and brokers are for every mode."""
    if entry.role not in ROUTER_ROLES:
        return
    at = (*path, "role")
    listening = isinstance(entry, ListenerConfig)
    if mode == "standalone":
        wanted = "edge" if entry.role == "edge" and not listening else "interior"
        what = f"{show(entry.role)} connects routers, and [router] mode is {show(mode)}"
        yield Problem(at, what, hint=f'write mode = "{wanted}"')
    elif mode == "interior" and entry.role == "edge" and not listening:
        yield Problem(
            at,
            'a connector of role "edge" leads from an edge router to an interior one, and [router] mode is "interior"',
            hint='did you mean role = "inter-router"?',
        )
    elif mode == "edge" and listening:
        yield Problem(at, f'an edge router has no listeners of role {show(entry.role)}', f'"normal", "{BROKER_ROLE}"')
    elif mode == "edge" and entry.role == "inter-router":
        yield Problem(at, 'an edge router has no connectors of role "inter-router"', hint='did you mean role = "edge"?')


def _router_id(router: RouterConfig) -> Iterator[Problem]:
    """An address that names a router ends its name at the slash, and `all` means every router."""
    if router.mode == "standalone":
        return
    if "/" in router.id:
        yield Problem(("router", "id"), f'{show(router.id)} contains "/", which no router of a network may')
    elif router.id == "all":
        yield Problem(("router", "id"), '"all" means all routers of a network')


def _workers(router: RouterConfig) -> Iterator[Problem]:
    """What further processes need: descriptors that can be handed on, a core that can have them, memory for each."""
    if router.workers == 1:
        return
    at = ("router", "workers")
    if not hasattr(socket, "SCM_RIGHTS") or not hasattr(socket.socket, "recvmsg"):
        yield Problem(at, "this system cannot hand connections from process to process", "1")
    elif router.mode == "edge":
        yield Problem(at, "an edge router is one process in this version", "1")
    elif router.memory_share < SMALLEST_MEMORY_LIMIT:
        yield Problem(at, f"too many for a memory_limit of {router.memory_limit}: each gets less than 1 MiB")


# The earlier one must be the longer one; why is said in the error.
_LONGER_TIMERS = (
    ("hello_max_age_seconds", "hello_interval_seconds", "neighbours would be lost between two hellos"),
    ("remote_ls_max_age_seconds", "ra_interval_seconds", "routers would be forgotten between two of their messages"),
)


def _timers(found: Found) -> Iterator[Problem]:
    router = found.single["router"]
    for longer, shorter, why in _LONGER_TIMERS:
        if getattr(router, longer) <= getattr(router, shorter) and not found.is_wrong("router", shorter):
            what = f"{getattr(router, longer):g} is not more than {shorter}, {getattr(router, shorter):g}: {why}"
            yield Problem(("router", longer), what)
    in_flux, stable = router.ra_interval_flux_seconds, router.ra_interval_seconds
    if in_flux > stable and not found.is_wrong("router", "ra_interval_seconds"):
        what = f"{in_flux:g} is more than ra_interval_seconds, {stable:g}"
        yield Problem(("router", "ra_interval_flux_seconds"), what)


def _unique_names(found: Found) -> Iterator[Problem]:
    for section, entries in found.repeated.items():
        first: dict[str, int] = {}
        for index, entry in entries.items():
            if entry.name and first.setdefault(entry.name, index) != index:
                other = f"{section}[{first[entry.name]}]"
                yield Problem((section, index, "name"), f"{show(entry.name)} is the name of {other} already")


def _unique_ports(found: Found) -> Iterator[Problem]:
    seen: list[tuple[int, Url]] = []
    for path, listener in found.located("listener"):
        url = listener.url
        if url.port == 0:
            continue
        other = next((index for index, earlier in seen if collide(earlier, url)), None)
        if other is not None:
            yield Problem((*path, "url"), f"{show(url.host_and_port)} is taken by listener[{other}] already")
        seen.append((int(path[1]), url))


def collide(one: Url | ServiceUrl, other: Url | ServiceUrl) -> bool:
    """Whether two listeners want the same port: the same host, or an address within the other's wildcard."""
    if one.port != other.port:
        return False
    hosts = {one.host.lower(), other.host.lower()}
    if len(hosts) == 1 or "" in hosts:
        return True
    try:
        first, second = (ipaddress.ip_address(host.partition("%")[0]) for host in sorted(hosts))
    except ValueError:
        return False
    return first.version == second.version and (first.is_unspecified or second.is_unspecified)


def _unique_patterns(found: Found) -> Iterator[Problem]:
    seen: dict[tuple[str, ...], int] = {}
    for path, address in found.located("address"):
        if found.is_wrong(*path, "prefix") or found.is_wrong(*path, "pattern"):
            continue
        if address.prefix is None and address.pattern is None:
            yield Problem(path, 'one of "prefix" and "pattern" is missing', at_key=True)
            continue
        if address.prefix is not None and address.pattern is not None:
            yield Problem((*path, "pattern"), '"prefix" and "pattern" exclude one another', at_key=True)
            continue
        index = int(path[1])
        if seen.setdefault(address.tokens, index) != index:
            what = "prefix" if address.prefix is not None else "pattern"
            yield Problem((*path, what), f"matches the same as address[{seen[address.tokens]}]")


def listener_name(entry: ListenerConfig) -> str:
    """What a listener without a name is called."""
    return f"listener/{entry.url.host_and_port}"


def connector_name(entry: ConnectorConfig) -> str:
    """What a connector without a name is called."""
    return f"connector/{entry.url.host_and_port}"


def _auto_links(found: Found) -> Iterator[Problem]:
    """An auto-link needs a connection that leads to a broker, and an address at each of its ends."""
    named = {entry.name or listener_name(entry): entry for entry in found.entries("listener")}
    named |= {entry.name or connector_name(entry): entry for entry in found.entries("connector")}
    # Of those that could not be read the names are known at least.
    unread = {
        raw.get("name", "") for section in ("listener", "connector") for raw in found.raw.get(section, [])
    } - named.keys()
    for path, auto_link in found.located("auto_link"):
        yield from _auto_link_ends(path, auto_link)
        name = auto_link.connection
        if not name or name in unread:
            continue
        if name not in named:
            brokers = [known for known, entry in named.items() if entry.role == BROKER_ROLE]
            what = f"no listener and no connector has the name {show(name)}"
            yield Problem((*path, "connection"), what, listing(map(show, brokers)), did_you_mean(name, brokers))
        elif named[name].role != BROKER_ROLE:
            what = f"{show(name)} has role {show(named[name].role)}: a broker's is {show(BROKER_ROLE)}"
            yield Problem((*path, "connection"), what)


def _auto_link_ends(path: KeyPath, auto_link: AutoLinkConfig) -> Iterator[Problem]:
    if not auto_link.connection and not auto_link.container_id:
        yield Problem(path, 'one of "connection" and "container_id" is missing', at_key=True)
    elif auto_link.connection and auto_link.container_id:
        yield Problem((*path, "container_id"), '"connection" and "container_id" exclude one another', at_key=True)
    if not auto_link.address:
        if auto_link.direction == "out":
            yield Problem((*path, "address"), 'missing; direction "out" needs it', at_key=True)
        elif not auto_link.external_address:
            yield Problem(path, 'one of "address" and "external_address" is missing', at_key=True)


def _no_brokers(found: Found) -> Iterator[str]:
    """Auto-links that are never attached."""
    entries = [*found.entries("listener"), *found.entries("connector")]
    if found.entries("auto_link") and not any(entry.role == BROKER_ROLE for entry in entries):
        yield f"[[auto_link]], and no listener or connector has role {BROKER_ROLE}: nothing goes to a broker"


def _broker_circles(found: Found) -> Iterator[str]:
    """What comes from a broker would go back to it: receivers of the address and the broker's own link share it."""
    waypoints = PatternTable()
    for entry in found.entries("address"):
        waypoints.add(AddressConfig("/".join(entry.tokens), Distribution.BALANCED, waypoint=entry.waypoint))
    taken = {entry.address: index for (_, index), entry in found.located("auto_link") if entry.direction == "out"}
    for (_, index), entry in found.located("auto_link"):
        if entry.direction == "in" and entry.address in taken:
            config = waypoints.match(strip_address(entry.address))
            if config is None or not config.waypoint:
                yield (
                    f"auto_link[{index}] brings messages to {show(entry.address)}, from where "
                    f"auto_link[{taken[entry.address]}] takes them to a broker again: one [[address]] with "
                    "waypoint = true keeps the two apart"
                )


def _budget(found: Found) -> Iterator[Problem]:
    """A connection holds at most a quarter of the budget, and a session needs two frames to make progress."""
    router = found.single["router"]
    largest = router.memory_share // 8
    for section in ("listener", "connector"):
        for path, entry in found.located(section):
            if entry.max_frame_size > largest:
                yield Problem(
                    (*path, "max_frame_size"),
                    f"{entry.max_frame_size} is too large for a memory_limit of {router.memory_limit}"
                    + (f" in {router.workers} processes" if router.workers > 1 else ""),
                    f"at most an eighth of it, {largest}" if router.workers == 1 else f"at most {largest}",
                )


def profile_of(
    path: KeyPath, entry: ConnectionConfig | ServiceConfig, found: Found
) -> tuple[SslProfileConfig | None, list[Problem]]:
    """The profile that an entry names; none without a problem when it is there but could not be read."""
    if entry.ssl_profile is None:
        return None, []
    for (_, index), profile in found.located("ssl_profile"):
        if profile.name == entry.ssl_profile:
            complete = not any(wrong[:2] == ("ssl_profile", index) for wrong in found.wrong)
            return profile if complete else None, []
    names = [raw["name"] for raw in found.raw.get("ssl_profile", []) if isinstance(raw.get("name"), str)]
    if entry.ssl_profile in names:
        return None, []
    what = f"no [[ssl_profile]] has the name {show(entry.ssl_profile)}"
    hint = did_you_mean(entry.ssl_profile, names)
    return None, [Problem((*path, "ssl_profile"), what, listing(map(show, names)), hint)]


def _listener_tls(path: KeyPath, listener: ListenerConfig, found: Found) -> Iterator[Problem]:
    profile, problems = profile_of(path, listener, found)
    yield from problems
    if listener.url.tls and listener.ssl_profile is None:
        yield Problem((*path, "ssl_profile"), f"missing; {listener.url.scheme} needs certificates", at_key=True)
    if not listener.url.tls and listener.ssl_profile is not None:
        secure = {"amqp": "amqps", "ws": "wss"}[listener.url.scheme]
        yield Problem((*path, "ssl_profile"), f"{listener.url.scheme} has no TLS", hint=f'did you mean "{secure}"?')
    if profile is not None and listener.url.tls and profile.cert_file is None:
        yield Problem((*path, "ssl_profile"), f"profile {show(profile.name)} has no cert_file, which a listener needs")
    if "EXTERNAL" in listener.sasl_mechanisms:
        at = (*path, "sasl_mechanisms", listener.sasl_mechanisms.index("EXTERNAL"))
        if not listener.url.tls:
            yield Problem(at, "EXTERNAL needs an amqps or wss URL")
        elif profile is not None and profile.ca_cert_file is None:
            yield Problem(at, f"EXTERNAL needs ca_cert_file in profile {show(profile.name)}")


def has_users_file(found: Found) -> bool:
    """Whether there is a users file, or was to be one."""
    return found.is_wrong("router", "users_file") or found.single["router"].users_file is not None


def _listener_authentication(path: KeyPath, listener: ListenerConfig, found: Found) -> Iterator[Problem]:
    mechanisms = listener.sasl_mechanisms
    if not mechanisms:
        if not is_loopback(listener.url):
            yield Problem(
                (*path, "sasl_mechanisms"),
                "missing; a listener that is not on loopback says who may connect",
                hint='["ANONYMOUS"] lets everybody in',
                at_key=True,
            )
            return
        mechanisms = ("ANONYMOUS",)
    if listener.authenticate_peer and set(mechanisms) == {"ANONYMOUS"}:
        yield Problem((*path, "authenticate_peer"), "nobody can connect: ANONYMOUS is the only mechanism")
    users_file = has_users_file(found)
    for index, mechanism in enumerate(mechanisms):
        at = (*path, "sasl_mechanisms", index)
        if mechanism == "PLAIN" and _plain_is_withheld(listener) and set(mechanisms) == {"PLAIN"}:
            yield Problem(
                at, "PLAIN shows passwords to the network", hint="use amqps or wss, or allow_insecure_plain = true"
            )
        if mechanism in PASSWORD_MECHANISMS and not users_file:
            yield Problem(at, f"{mechanism} needs users_file in [router]")


def _connector_tls(path: KeyPath, connector: ConnectorConfig, found: Found) -> Iterator[Problem]:
    profile, problems = profile_of(path, connector, found)
    yield from problems
    tls = any(url.tls for url in (connector.url, *connector.failover_urls))
    if connector.ssl_profile is not None and not tls:
        secure = {"amqp": "amqps", "ws": "wss"}[connector.url.scheme]
        yield Problem((*path, "ssl_profile"), f"{connector.url.scheme} has no TLS", hint=f'did you mean "{secure}"?')
    if "EXTERNAL" in connector.sasl_mechanisms:
        at = (*path, "sasl_mechanisms", connector.sasl_mechanisms.index("EXTERNAL"))
        if not tls:
            yield Problem(at, "EXTERNAL needs an amqps or wss URL")
        elif (connector.ssl_profile is None and not found.is_wrong(*path, "ssl_profile")) or (
            profile is not None and profile.cert_file is None
        ):
            yield Problem(at, "EXTERNAL needs an ssl_profile with cert_file")


def _connector_authentication(path: KeyPath, connector: ConnectorConfig, _found: Found) -> Iterator[Problem]:
    if connector.sasl_username is not None and connector.sasl_password is None:
        yield Problem((*path, "sasl_password"), "missing; sasl_username needs it", at_key=True)
    if connector.sasl_password is not None and connector.sasl_username is None:
        yield Problem((*path, "sasl_username"), "missing; sasl_password needs it", at_key=True)
    plain_allowed = connector.allow_insecure_plain or all(
        url.tls for url in (connector.url, *connector.failover_urls)
    )
    for index, mechanism in enumerate(connector.sasl_mechanisms):
        at = (*path, "sasl_mechanisms", index)
        if mechanism in PASSWORD_MECHANISMS and connector.sasl_username is None and connector.sasl_password is None:
            yield Problem(at, f"{mechanism} needs sasl_username and sasl_password")
        if mechanism == "PLAIN" and not plain_allowed and set(connector.sasl_mechanisms) == {"PLAIN"}:
            yield Problem(
                at, "PLAIN shows passwords to the network", hint="use amqps or wss, or allow_insecure_plain = true"
            )


def _certificates(path: KeyPath, profile: SslProfileConfig) -> Iterator[Problem]:
    """The files can be read, are what they should be, and belong together."""
    readable = {}
    for key in ("ca_cert_file", "cert_file", "private_key_file"):
        file: Path | None = getattr(profile, key)
        if file is None:
            continue
        try:
            with file.open("rb") as stream:
                stream.read(1)
        except OSError as error:
            yield Problem((*path, key), f"cannot read {file}: {error.strerror}")
            continue
        readable[key] = file
    if profile.private_key_file is not None and profile.cert_file is None:
        yield Problem((*path, "cert_file"), "missing; private_key_file needs it", at_key=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if "ca_cert_file" in readable:
        try:
            context.load_verify_locations(cafile=readable["ca_cert_file"])
        except (ssl.SSLError, OSError):
            yield Problem((*path, "ca_cert_file"), f"{profile.ca_cert_file} holds no certificate in PEM form")
    if profile.ciphers is not None:
        try:
            context.set_ciphers(profile.ciphers)
        except ssl.SSLError:
            yield Problem((*path, "ciphers"), f"OpenSSL selects no cipher by {show(profile.ciphers)}")
    yield from _certificate_chain(path, profile, readable, context)


def _usable(path: KeyPath, profile: SslProfileConfig) -> Iterator[Problem]:
    """What the transport has to say about files that passed."""
    from van.transport.tls import TlsConfigError, TlsCredentials

    try:
        TlsCredentials(profile.profile())
    except TlsConfigError as error:
        yield Problem(path, str(error))


def _certificate_chain(
    path: KeyPath, profile: SslProfileConfig, readable: dict[str, Path], context: ssl.SSLContext
) -> Iterator[Problem]:
    cert_file = readable.get("cert_file")
    if cert_file is None or (profile.private_key_file is not None and "private_key_file" not in readable):
        return
    key_name = "cert_file" if profile.private_key_file is None else "private_key_file"
    try:
        # Always with a password: OpenSSL would ask for it on the terminal otherwise.
        context.load_cert_chain(cert_file, profile.private_key_file, password=profile.password or "")
    except (ssl.SSLError, OSError, ValueError) as error:
        key_file = profile.private_key_file or cert_file
        if "MISMATCH" in (getattr(error, "reason", None) or ""):
            yield Problem((*path, key_name), "the key does not belong to the certificate of cert_file")
        elif not _holds(cert_file, b"-----BEGIN CERTIFICATE-----"):
            yield Problem((*path, "cert_file"), f"{cert_file} holds no certificate in PEM form")
        elif _holds(key_file, b"ENCRYPTED"):  # both "BEGIN ENCRYPTED PRIVATE KEY" and "Proc-Type: 4,ENCRYPTED"
            what = "missing; the key is encrypted" if profile.password is None else "wrong for the key"
            yield Problem((*path, "password"), what, at_key=profile.password is None)
        else:
            yield Problem((*path, key_name), f"no private key in PEM form in {key_file}")


def _holds(file: Path, what: bytes) -> bool:
    return what in file.read_bytes()
