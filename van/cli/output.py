"""What goes to stdout: messages as text or as one JSON object a line."""

from __future__ import annotations

import base64
import json
import math
import os
import sys
import uuid
from collections.abc import Mapping

import trio

from van.amqp.message import Properties
from van.amqp.types import Described
from van.client import Delivery, Message, body_of


async def write(octets: bytes) -> None:
    """Write to stdout, however long its reader takes, while the connection lives on. Raises BrokenPipeError."""
    await trio.to_thread.run_sync(_write_all, octets, abandon_on_cancel=True)


def _write_all(octets: bytes) -> None:
    # Not through sys.stdout: a thread that is stuck there with its lock would keep the process from ending.
    descriptor = sys.stdout.fileno()
    view = memoryview(octets)
    while view:
        view = view[os.write(descriptor, view) :]


def text_line(message: Message) -> bytes:
    """The body as a line: octets as they are, a text as it is, any other value as JSON."""
    body = body_of(message)
    if isinstance(body, bytes):
        return body + b"\n"
    if isinstance(body, str):
        return body.encode("utf-8", "surrogateescape") + b"\n"
    return b"\n" if body is None else json_line(plain(body))


def json_line(value: object) -> bytes:
    """A value of JSON in one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"


def json_object(address: str, message: Message) -> dict[str, object]:
    """A message as `-o json` shows it. Properties that are absent are left out."""
    return {
        "address": address,
        "properties": properties_of(message),
        "application_properties": plain(message.application_properties or {}),
        "body": plain(body_of(message)),
    }


def properties_of(message: Message) -> dict[str, object]:
    """The properties (3.2.4) by their names, those that are there."""
    properties = message.properties
    if properties is None:
        return {}
    values = {field.attribute: getattr(properties, field.attribute) for field in Properties.FIELDS}
    return {name: plain(value) for name, value in values.items() if value is not None}


def plain(value: object) -> object:
    """A value of AMQP's type system as JSON has it.

    Octets are text where they are UTF-8, else `{"base64": ...}`; uuids are text; keys of maps become text; numbers that
    JSON has not are text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return str(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(plain(key)): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Described):
        return {"descriptor": plain(value.descriptor), "value": plain(value.value)}
    return str(value)


def line_of(address: str, delivery: Delivery, as_json: bool) -> bytes:
    """A delivery as the command shows it. Raises `MalformedMessageError`."""
    message = delivery.message
    return json_line(json_object(address, message)) if as_json else text_line(message)
