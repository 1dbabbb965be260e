"""What CREATE makes of attributes: each read by its name and type, and what is wrong with them."""

from __future__ import annotations

from typing import Final

from van.management.requests import ManagementError, Status, quoted
from van.routing.address import MAX_ADDRESS_LENGTH
from van.routing.auto_link import AutoLink

# Attributes that every entity has: a name may be given in the body, a type has been.
_OF_ALL: Final = frozenset({"name", "type", "identity"})
# What the attributes were called in the older family of routers.
_FORMERLY: Final = {"addr": "address", "dir": "direction", "externalAddr": "externalAddress"}
_AUTO_LINK: Final = frozenset({"address", "direction", "connection", "containerId", "externalAddress"})


def texts_of(attributes: dict[object, object], known: frozenset[str], formerly: dict[str, str]) -> dict[str, str]:
    """Attributes that are all texts, by their names; null counts as absent. Raises `ManagementError`."""
    found: dict[str, str] = {}
    for given, value in attributes.items():
        name = formerly.get(str(given), str(given))
        if name not in known and name not in _OF_ALL:
            raise ManagementError(Status.BAD_REQUEST, f"Unknown attribute {quoted(name)}")
        if value is None:
            continue
        if not isinstance(value, str):
            raise ManagementError(Status.BAD_REQUEST, f"{name} must be a string")
        if len(value) > MAX_ADDRESS_LENGTH:
            raise ManagementError(Status.BAD_REQUEST, f"{name} has more than {MAX_ADDRESS_LENGTH} characters")
        found[name] = str(value)
    return found


def auto_link_of(name: str, attributes: dict[object, object]) -> AutoLink:
    """The auto-link that a CREATE asks for. Raises `ManagementError`."""
    given = texts_of(attributes, _AUTO_LINK, _FORMERLY)
    direction = given.get("direction", "")
    address, external = given.get("address", ""), given.get("externalAddress", "")
    connection, container = given.get("connection", ""), given.get("containerId", "")
    if direction not in ("in", "out"):
        what = f"not {quoted(direction)}" if direction else "and is missing"
        raise ManagementError(Status.BAD_REQUEST, f'direction is "in" or "out", {what}')
    if bool(connection) == bool(container):
        raise ManagementError(Status.BAD_REQUEST, "One of connection and containerId is needed, and only one")
    if not address and direction == "out":
        raise ManagementError(Status.BAD_REQUEST, "direction out needs an address")
    if not address and not external:
        raise ManagementError(Status.BAD_REQUEST, "One of address and externalAddress is needed")
    return AutoLink(
        name or given.get("name", ""),
        address,
        incoming=direction == "in",
        external_address=external,
        connection=connection,
        container_id=container,
    )
