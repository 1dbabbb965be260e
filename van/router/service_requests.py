"""Services that are created and deleted over management: from attributes to an entry, and what came of it.

An entry is read and checked as one of the site file is. It is kept as long as the process runs: who wants it to stay
writes it into the site file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from van.management.requests import ManagementError, Request, Status, quoted
from van.router.config import ConfigurationError, read_service, service_name
from van.router.sections import ServiceConfig
from van.router.services import RunningService, ServiceError
from van.router.values import Context, InvalidValueError, addresses
from van.transport.url import bracketed

if TYPE_CHECKING:
    from van.router.site import Site

# For names of hosts to be resolved, where a port is bound.
PATIENCE_SECONDS: Final = 5.0

# Attributes of the deployed routers that say nothing here, or what is so anyway.
_PASSED_OVER: Final = frozenset({"siteId", "processId", "backlog", "observer", "multiAddressStrategy"})
_STRATEGY: Final = "multiAddressStrategy"
LISTENER_ADDRESS: Final = "listenerAddress"


async def carry_out(site: Site, request: Request) -> str | ManagementError:
    """Create or delete a service. Returns its name, or why it was not done."""
    try:
        if request.operation == "DELETE":
            return _delete(site, request)
        with trio.fail_after(PATIENCE_SECONDS):
            return await _create(site, request)
    except trio.TooSlowError:
        return ManagementError(Status.BAD_REQUEST, f"not done within {PATIENCE_SECONDS:g} s")
    except ManagementError as error:
        return error


async def _create(site: Site, request: Request) -> str:
    if request.type == LISTENER_ADDRESS:
        return _create_address(site, request)
    plain = _plain(request)
    try:
        entry = read_service(plain, site.config)
    except ConfigurationError as error:
        raise ManagementError(Status.BAD_REQUEST, "; ".join(error.lines)) from None
    entry = _named(site, entry)
    try:
        await site.services.add(entry)
    except ServiceError as error:
        raise ManagementError(Status.BAD_REQUEST, str(error)) from None
    site.logger.info("service added", service=entry.name, url=str(entry.url), address=entry.address)
    return entry.name


def _create_address(site: Site, request: Request) -> str:
    """One more address of a port that has several."""
    given = {str(name): value for name, value in request.attributes.items() if value is not None}
    address, value, listener = given.get("address"), given.get("value", 0), given.get("listener")
    name = str(request.name or given.get("name") or f"{listener}/{address}")
    running = site.services.running.get(str(listener))
    if running is None or running.entry.addresses is None:
        what = f"listener: no tcpListener with several addresses has the name {quoted(str(listener))}"
        raise ManagementError(Status.BAD_REQUEST, what)
    if any(name == member.name for one in site.services.running.values() for member in one.members):
        raise ManagementError(Status.BAD_REQUEST, f"name: {quoted(name)} is taken")
    try:
        ((text, number),) = addresses({_python(address): _python(value)}, Context(Path())).items()
        site.services.add_address(running, name, text, number)
    except InvalidValueError as error:
        raise ManagementError(Status.BAD_REQUEST, str(error)) from None
    except ServiceError as error:
        raise ManagementError(Status.BAD_REQUEST, str(error)) from None
    site.wake()
    site.logger.info("service address added", service=listener, address=text, value=number)
    return name


def _delete_address(site: Site, request: Request) -> str:
    for running in site.services.running.values():
        for member in running.members:
            name = request.name if request.identity is None else request.identity.removeprefix(f"{LISTENER_ADDRESS}/")
            if name == member.name:
                running.several.remove(member)
                site.wake()
                site.logger.info("service address removed", service=running.entry.name, address=member.service.address)
                return member.name
    raise _not_found(request)


def _delete(site: Site, request: Request) -> str:
    if request.identity is None and request.name is None:
        raise ManagementError(Status.BAD_REQUEST, "No name or identity provided")
    if request.type == LISTENER_ADDRESS:
        return _delete_address(site, request)
    running = _find(site, request)
    name = running.entry.name
    site.services.remove(name)
    note = "it is in the site file, and comes back with it" if running.configured else ""
    site.logger.info("service removed", service=name, **({"note": note} if note else {}))
    return name


def _find(site: Site, request: Request) -> RunningService:
    """The service that a DELETE names. Raises `ManagementError`."""
    from van.router.management import service_facts

    identity, name = request.identity, request.name
    for running in site.services.running.values():
        facts = service_facts(running)
        if request.type == "service":
            own = f"service/{facts.name}"
        elif facts.scheme in ("tcp", "tls") and facts.listening == (request.type == "tcpListener"):
            own = f"{request.type}/{facts.host}:{facts.port}:{facts.name}"
        else:
            continue
        if identity == own if identity is not None else name == facts.name:
            return running
    raise _not_found(request)


def _not_found(request: Request) -> ManagementError:
    identity, name = request.identity, request.name
    key, value = ("identity", identity) if identity is not None else ("name", name)
    return ManagementError(Status.NOT_FOUND, f"No entity with {key}={quoted(value or '')}")


def _named(site: Site, entry: ServiceConfig) -> ServiceConfig:
    """Give it a name that no other has, if it has none."""
    if entry.name:
        return entry
    name = wanted = service_name(entry)
    count = 1
    while name in site.services.running:
        count += 1
        name = f"{wanted}/{count}"
    return attrs.evolve(entry, name=name)


def _plain(request: Request) -> dict[str, Any]:
    """The attributes of a request as keys of a site file. Raises `ManagementError`."""
    given = {str(name): value for name, value in request.attributes.items() if value is not None}
    for name in ("identity", "type"):
        given.pop(name, None)
    if request.name is not None:
        given.setdefault("name", request.name)
    if request.type != "service":
        given = _of_tcp(request.type, given)
    return {_snake(name): _python(value) for name, value in given.items()}


def _of_tcp(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a tcpListener or tcpConnector as those of a service."""
    left = {name: value for name, value in given.items() if name not in _PASSED_OVER}
    listening = kind == "tcpListener"
    host = str(left.pop("host", "" if listening else "127.0.0.1"))
    port = str(left.pop("port", ""))
    if not port:
        raise ManagementError(Status.BAD_REQUEST, "port: missing")
    strategy = given.get(_STRATEGY, "none")
    if listening and strategy != "none":
        # Its addresses come one by one, as entities of their own.
        left |= {_STRATEGY: strategy, "addresses": {}}
    left["listen" if listening else "connect"] = f"tcp://{bracketed(host)}:{port}"
    # What means nothing without TLS, and is told as it is anyway.
    for name, value in (("authenticatePeer", False), ("verifyHostname", True)):
        if left.get(name) is value:
            del left[name]
    return left


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _python(value: object) -> object:
    """A value of AMQP as one of TOML."""
    if isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, dict):
        return {_python(name): _python(element) for name, element in value.items()}
    return [_python(element) for element in value] if isinstance(value, (list, tuple)) else value
