"""Rules between keys of services: what a scheme has no use for, what TLS needs, and ports that two want."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

import attrs

from van.router.checks import Found, collide, has_users_file, profile_of
from van.router.kinds import KINDS, Kind
from van.router.positions import KeyPath
from van.router.sections import ServiceConfig
from van.router.values import Problem, listing, show

# What every service may have.
_ALWAYS: Final = frozenset({"listen", "connect", "address", "name"})


def check(found: Found) -> list[Problem]:
    """Everything that is wrong with services, beside single values."""
    problems = [*_unique_ports(found), *_dns(found)]
    for path, entry in found.located("service"):
        if found.is_wrong(*path, "listen") or found.is_wrong(*path, "connect"):
            continue
        problems += check_one(path, entry, found)
    return [problem for problem in problems if not found.is_wrong(*problem.path)]


def check_one(path: KeyPath, entry: ServiceConfig, found: Found) -> Iterator[Problem]:
    """What is wrong with one service by itself, and with the profile that it names."""
    if entry.listen is not None and entry.connect is not None:
        yield Problem((*path, "connect"), '"listen" and "connect" exclude one another', at_key=True)
        return
    if entry.listen is None and entry.connect is None:
        yield Problem(path, 'one of "listen" and "connect" is missing', at_key=True)
        return
    listening = entry.listen is not None
    scheme = entry.url.scheme
    kind = KINDS[scheme]
    if not found.is_wrong(*path, "addresses"):
        yield from _address(path, entry, kind, listening)
    yield from _keys(path, entry, kind, listening)
    if entry.authenticate_users and not has_users_file(found):
        yield Problem((*path, "authenticate_users"), "needs users_file in [router]", at_key=True)
    yield from _tls(path, entry, kind, listening, found)


def _address(path: KeyPath, entry: ServiceConfig, kind: Kind, listening: bool) -> Iterator[Problem]:
    """One address, or several, or none where that makes sense."""
    several = kind.several and listening
    if several and entry.address and entry.addresses is not None:
        yield Problem((*path, "addresses"), '"address" and "addresses" exclude one another', at_key=True)
    elif several and entry.multi_address_strategy is not None and entry.addresses is None:
        yield Problem((*path, "addresses"), "missing; multi_address_strategy chooses one of them", at_key=True)
    elif kind.needs_address and not entry.address and not (several and entry.addresses is not None):
        yield Problem((*path, "address"), "missing", at_key=True)


def _keys(path: KeyPath, entry: ServiceConfig, kind: Kind, listening: bool) -> Iterator[Problem]:
    """Keys that mean nothing for this scheme at this end."""
    allowed = kind.allowed(listening)
    for field in attrs.fields(ServiceConfig):
        if field.name in _ALWAYS or field.name in allowed or getattr(entry, field.name) is None:
            continue
        what = f'means nothing where a service {"listens" if listening else "connects"} by {entry.url.scheme}'
        yield Problem((*path, field.name), what, listing(sorted({*_ALWAYS, *allowed})), at_key=True)


def _tls(path: KeyPath, entry: ServiceConfig, kind: Kind, listening: bool, found: Found) -> Iterator[Problem]:
    if kind.tls is False:
        return
    profile, problems = profile_of(path, entry, found)
    yield from problems
    scheme = entry.url.scheme
    if entry.proxy_protocol and not listening and (kind.tls or entry.ssl_profile is not None):
        yield Problem((*path, "proxy_protocol"), "not together with TLS to the server in this version", at_key=True)
    if listening and kind.tls and entry.ssl_profile is None:
        yield Problem((*path, "ssl_profile"), f"missing; {scheme} needs certificates", at_key=True)
    if listening and profile is not None and profile.cert_file is None:
        yield Problem((*path, "ssl_profile"), f"profile {show(profile.name)} has no cert_file, which a listener needs")
    if listening and entry.authenticate_peer and profile is not None and profile.ca_cert_file is None:
        yield Problem((*path, "authenticate_peer"), f"needs ca_cert_file in profile {show(profile.name)}")
    if not kind.tls and entry.ssl_profile is None:
        for name in ("authenticate_peer", "verify_hostname", "alpn"):
            if name in kind.allowed(listening) and getattr(entry, name):
                hint = f'write ssl_profile = "..."{_secure(scheme, name)}'
                yield Problem((*path, name), f"{scheme} has no TLS without an ssl_profile", hint=hint, at_key=True)


def _secure(scheme: str, name: str) -> str:
    """The scheme that has TLS, where there is one."""
    secure = {"tcp": "tls", "http": "https", "mqtt": "mqtts"}.get(scheme)
    return f", or use {secure}" if secure is not None and name != "authenticate_peer" else ""


def _dns(found: Found) -> Iterator[Problem]:
    """What is wrong with servers of names."""
    if found.entries("dns") and find_spec("dns") is None:
        yield Problem(("dns",), "dnspython is not installed", hint='run: pip install "van[dns]"', at_key=True)


def _unique_ports(found: Found) -> Iterator[Problem]:
    """Ports that two services want, or a service and a listener."""
    seen: list[tuple[str, bool, Any]] = [
        (f"listener[{path[1]}]", True, listener.url) for path, listener in found.located("listener")
    ]
    for path, entry in (*found.located("dns"), *found.located("service")):
        url = entry.listen
        if url is None or url.port == 0:
            continue
        # Names are asked for by both.
        kinds = (False, True) if path[0] == "dns" else (KINDS[url.scheme].streams,)
        other = next((name for name, kind, earlier in seen if kind in kinds and collide(earlier, url)), None)
        if other is not None:
            yield Problem((*path, "listen"), f"{show(url.host_and_port)} is taken by {other} already")
        seen += [(f"{path[0]}[{path[1]}]", streams, url) for streams in kinds]
