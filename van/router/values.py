"""Readers: from a TOML value to what a key means, or the reason why not.

A reader takes the plain Python value and a `Context`, and returns the value that the configuration holds, or raises
`InvalidValueError` with one or more `Problem`s. Readers know nothing of the file's lines and of other keys: where a
problem stands is found by `positions.py`, rules between keys are in `checks.py`.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import attrs

from van.router.kinds import schemes
from van.router.positions import KeyPath
from van.transport.service_url import ServiceUrl, parse_service_url
from van.transport.url import Url, UrlError, parse_url

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_UNITS = {
    "": 1, "B": 1,
    "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
    "K": KIB, "KiB": KIB, "M": MIB, "MiB": MIB, "G": GIB, "GiB": GIB, "TiB": 1024 * GIB,
}  # fmt: skip
_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)\s*")

_ZONE = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

# A secret that a file holds is a line; more is a mistake (a whole certificate, a device).
SECRET_FILE_LIMIT = 64 * KIB

# country, state, locality, organisation, unit, common name; SHA-1, SHA-256 and SHA-512 of the certificate.
UID_LETTERS = "csloun125"

NOT_AVAILABLE = "not available in this version"


@attrs.frozen
class Problem:
    """One mistake in a site file. `path` leads to the key, `at_key` tells whether the key or its value is wrong."""

    path: KeyPath
    what: str
    allowed: str = ""
    hint: str = ""
    at_key: bool = False

    def below(self, prefix: KeyPath) -> Problem:
        """The same problem, seen from further up."""
        return attrs.evolve(self, path=(*prefix, *self.path))

    def text(self) -> str:
        return "; ".join(part for part in (self.what, self.allowed and f"allowed: {self.allowed}", self.hint) if part)


class InvalidValueError(Exception):
    """A value that cannot be used, with everything that is wrong about it."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.text() for problem in problems))
        self.problems = problems


@attrs.frozen
class Context:
    """What reading depends on beside the value: the folder where relative file names start."""

    folder: Path


Reader = Callable[[object, Context], object]


def show(value: object) -> str:
    """A value as it may stand in an error line: short, on one line, in TOML's spelling where that is simple."""
    if isinstance(value, str | bool | int | float):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, dict):
        return "a table"
    elif isinstance(value, list):
        return "a list"
    else:
        text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def listing(words: Iterable[str]) -> str:
    return ", ".join(words)


def did_you_mean(word: str, candidates: Sequence[str]) -> str:
    """A hint at the candidate that was probably meant, or an empty string."""
    spelled = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).replace("-", "_").lower()
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(spelled, by_lower, n=1) or difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"did you mean {json.dumps(by_lower[close[0]], ensure_ascii=False)}?" if close else ""


def _wrong(what: str, allowed: str = "", hint: str = "") -> InvalidValueError:
    return InvalidValueError(Problem((), what, allowed, hint))


def boolean(value: object, _context: Context) -> bool:
    if not isinstance(value, bool):
        raise _wrong(f"expected true or false, got {show(value)}")
    return value


def text(value: object, _context: Context) -> str:
    if not isinstance(value, str):
        raise _wrong(f"expected a text, got {show(value)}")
    if not value.isprintable():
        raise _wrong("a control character in the text")
    return value


def name(value: object, context: Context) -> str:
    """A text that is not empty."""
    if not text(value, context):
        raise _wrong("an empty text")
    return str(value)


def router_id(value: object, context: Context) -> str:
    """The container id and node id. Limits of the routers that are deployed today."""
    given = name(value, context)
    if len(given) > 127:
        raise _wrong(f"{len(given)} characters", "at most 127")
    bad = sorted({character for character in given if character in "|$" or character.isspace()})
    if bad:
        raise _wrong(f"{show(given)} contains {listing(map(json.dumps, bad))}", 'no blanks, no "|" and no "$"')
    return given


def integer(minimum: int, maximum: int) -> Reader:
    allowed = f"{minimum} to {maximum}"

    def read(value: object, _context: Context) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(f"expected an integer, got {show(value)}", allowed)
        if not minimum <= value <= maximum:
            raise _wrong(f"{value} is out of range", allowed)
        return value

    return read


def seconds(minimum: float, maximum: float) -> Reader:
    """Seconds, whole or not, as float."""
    allowed = f"{minimum:g} to {maximum:g}"

    def read(value: object, _context: Context) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(f"expected a number of seconds, got {show(value)}", allowed)
        if not minimum <= value <= maximum:
            raise _wrong(f"{value} is out of range", allowed)
        return float(value)

    return read


def size(minimum: int, maximum: int) -> Reader:
    """Octets as an integer, or a text with a unit: `"256 MiB"`."""
    allowed = f'{show_size(minimum)} to {show_size(maximum)}, as an integer of octets or a text such as "256 MiB"'

    def read(value: object, _context: Context) -> int:
        if isinstance(value, str):
            match = _SIZE.fullmatch(value)
            if match is None or match[2] not in _UNITS:
                raise _wrong(f"expected a size, got {show(value)}", allowed)
            octets = int(float(match[1]) * _UNITS[match[2]]) if "." in match[1] else int(match[1]) * _UNITS[match[2]]
        elif isinstance(value, int) and not isinstance(value, bool):
            octets = value
        else:
            raise _wrong(f"expected a size, got {show(value)}", allowed)
        if not minimum <= octets <= maximum:
            raise _wrong(f"{show(value)} is out of range", allowed)
        return octets

    return read


def show_size(octets: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if octets >= _UNITS[unit] and octets % _UNITS[unit] == 0:
            return f"{octets // _UNITS[unit]} {unit}"
    return str(octets)


def one_of(*words: str, later: Sequence[str] = ()) -> Reader:
    """One of a few words. Those `later` are known, and are refused for now."""
    allowed = listing(json.dumps(word) for word in words)

    def read(value: object, _context: Context) -> str:
        if isinstance(value, str) and value in words:
            return value
        if isinstance(value, str) and value in later:
            raise _wrong(f"{show(value)} is {NOT_AVAILABLE}", allowed)
        hint = did_you_mean(value, [*words, *later]) if isinstance(value, str) else ""
        raise _wrong(f"unknown value {show(value)}", allowed, hint)

    return read


def list_of(read_element: Reader, *, empty: bool = True) -> Reader:
    """A list, read element by element; a value may stand in it once. The configuration holds it as a tuple."""

    def read(value: object, context: Context) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise _wrong(f"expected a list, got {show(value)}", hint=f"write [{show(value)}]" if value else "")
        if not value and not empty:
            raise _wrong("an empty list")
        elements: list[object] = []
        problems: list[Problem] = []
        for index, element in enumerate(value):
            try:
                result = read_element(element, context)
            except InvalidValueError as invalid:
                problems += (problem.below((index,)) for problem in invalid.problems)
                continue
            if result in elements:
                problems.append(Problem((index,), f"{show(element)} is listed twice"))
            elements.append(result)
        if problems:
            raise InvalidValueError(*problems)
        return tuple(elements)

    return read


def table_of(names: Sequence[str], read_value: Reader) -> Reader:
    """A table with some of these names."""

    def read(value: object, context: Context) -> dict[str, object]:
        if not isinstance(value, dict):
            raise _wrong(f"expected a table, got {show(value)}")
        result: dict[str, object] = {}
        problems: list[Problem] = []
        for given, inner in value.items():
            if given not in names:
                problems.append(unknown_key((given,), names))
                continue
            try:
                result[given] = read_value(inner, context)
            except InvalidValueError as invalid:
                problems += (problem.below((given,)) for problem in invalid.problems)
        if problems:
            raise InvalidValueError(*problems)
        return result

    return read


def unknown_key(path: KeyPath, known: Sequence[str]) -> Problem:
    return Problem(path, "unknown key", listing(known), did_you_mean(str(path[-1]), known), at_key=True)


def listen_url(value: object, context: Context) -> Url:
    """Where to listen: an empty host is every interface, port 0 lets the system choose."""
    return _url(value, context, any_interface=True)


def connect_url(value: object, context: Context) -> Url:
    url = _url(value, context, any_interface=False)
    if url.port == 0:
        raise _wrong("port 0 cannot be connected to", "1 to 65535")
    return url


def _url(value: object, context: Context, *, any_interface: bool) -> Url:
    try:
        url = parse_url(text(value, context), any_interface=any_interface)
    except UrlError as error:
        raise _wrong(str(error)) from None
    if url.user is not None:
        raise _wrong("a user does not belong into this URL", hint="connectors have sasl_username and sasl_password")
    if url.address:
        raise _wrong(f"an address does not belong into this URL: {show(url.address)}")
    if url.websocket and ("?" in url.path or "#" in url.path):
        raise _wrong("a query or a fragment does not belong into this URL")
    return url


def service_listen_url(value: object, context: Context) -> ServiceUrl:
    """Where a service listens: an empty host is every interface, port 0 lets the system choose."""
    return _service_url(value, context, listening=True)


def service_connect_url(value: object, context: Context) -> ServiceUrl:
    """Where the server of a service is."""
    url = _service_url(value, context, listening=False)
    if url.port == 0:
        raise _wrong("port 0 cannot be connected to", "1 to 65535")
    return url


def _service_url(value: object, context: Context, *, listening: bool) -> ServiceUrl:
    try:
        return parse_service_url(text(value, context), schemes(listening), any_interface=listening)
    except UrlError as error:
        raise _wrong(str(error)) from None


def service_address(value: object, context: Context) -> str:
    """The address of a service: one that applications use, too."""
    given = name(value, context)
    if given.startswith(("_", "$")):
        raise _wrong(f"{show(given)} begins with {show(given[0])}, as addresses of routers themselves do")
    return given


def dns_listen_url(value: object, context: Context) -> ServiceUrl:
    """Where questions of the DNS come: by UDP and TCP."""
    try:
        return parse_service_url(text(value, context), ("udp",), any_interface=True)
    except UrlError as error:
        raise _wrong(str(error)) from None


def dns_zone(value: object, context: Context) -> str:
    """The name of a zone: labels of letters, digits and hyphens (RFC 1123, 2.1), without the dot at its end."""
    given = name(value, context).lower().removesuffix(".")
    if len(given) > 50 or not _ZONE.fullmatch(given):
        allowed = "labels of letters, digits and hyphens, at most 50 characters"
        raise _wrong(f"{show(value)} is no name of a zone", allowed)
    return given


def address_pool(value: object, context: Context) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Addresses of this machine, as a network or one of them."""
    try:
        return ipaddress.ip_network(text(value, context), strict=False)
    except ValueError:
        raise _wrong(f"{show(value)} is no network", hint='write "127.64.0.0/16" or "10.0.0.5"') from None


def addresses(value: object, context: Context) -> dict[str, int]:
    """Several addresses of a service, each with its priority or weight."""
    if not isinstance(value, dict):
        raise _wrong(f"expected a table of addresses, got {show(value)}", hint='write { "orders" = 2, "copy" = 1 }')
    read_value = integer(0, 1_000_000)
    found: dict[str, int] = {}
    problems: list[Problem] = []
    for given, number in value.items():
        try:
            found[service_address(given, context)] = int(str(read_value(number, context)))
        except InvalidValueError as invalid:
            problems += (problem.below((given,)) for problem in invalid.problems)
    if problems:
        raise InvalidValueError(*problems)
    return found


def alpn_protocol(value: object, context: Context) -> str:
    """The name of a protocol for TLS (RFC 7301): 1 to 255 octets."""
    given = name(value, context)
    if len(given.encode()) > 255:
        raise _wrong(f"{len(given.encode())} octets", "at most 255")
    return given


def is_loopback(url: Url) -> bool:
    """Whether only programs of this machine can be on the other side; not for names that must be resolved."""
    if url.host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(url.host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def file(value: object, context: Context) -> Path:
    """A file's name, relative to the folder of the site file. That it can be read is checked later."""
    return context.folder / Path(name(value, context)).expanduser()


def tokens(address: str) -> tuple[str, ...]:
    """An address as tokens; both separators are equal."""
    return tuple(re.split(r"[./]", address))


def address_prefix(value: object, context: Context) -> str:
    given = name(value, context)
    if given[-1] in "./":
        raise _wrong(f"{show(given)} ends with a separator", hint=f"did you mean {show(given.rstrip('./'))}?")
    if not {"*", "#"}.isdisjoint(tokens(given)):
        raise _wrong(f"{show(given)} has a wildcard", hint='did you mean the key "pattern"?')
    return given


def address_pattern(value: object, context: Context) -> str:
    given = name(value, context)
    if given[-1] in "./":
        raise _wrong(f"{show(given)} ends with a separator", hint=f"did you mean {show(given.rstrip('./'))}?")
    if any(("*" in token or "#" in token) and len(token) > 1 for token in tokens(given)):
        raise _wrong(f"{show(given)} has a wildcard inside a token", '"*" or "#" alone between separators')
    return given


def proxy(value: object, context: Context) -> str:
    """The URL of a proxy, given as a secret because it may hold a password."""
    from van.transport.proxy import parse_proxy_url  # with trio and the libraries of proxies, for those who have one

    url = secret(value, context)
    try:
        parse_proxy_url(url)
    except UrlError as error:
        raise _wrong(str(error)) from None
    return url


def uid_format(value: object, context: Context) -> str:
    """Which parts of a client's certificate are its user id."""
    letters = name(value, context)
    bad = sorted(set(letters) - set(UID_LETTERS))
    if bad:
        raise _wrong(f"unknown letter {listing(map(show, bad))}", f"letters of {UID_LETTERS}")
    return letters


def secret(value: object, context: Context) -> str:
    """`env:NAME`, `file:PATH` (the file's first line), or the text itself. Never repeats what it read."""
    if not isinstance(value, str):
        raise _wrong("expected a text", '"env:NAME", "file:PATH", or the secret itself')
    kind, colon, rest = value.partition(":")
    if colon and kind == "env":
        found = os.environ.get(rest)
        if found is None:
            raise _wrong(f"the environment has no variable {show(rest)}")
        return found
    if colon and kind == "file":
        path = file(rest, context)
        try:
            with path.open("rb") as stream:
                octets = stream.read(SECRET_FILE_LIMIT + 1)
            if len(octets) > SECRET_FILE_LIMIT:
                raise _wrong(f"{path} is too large for a secret", f"at most {show_size(SECRET_FILE_LIMIT)}")
            return octets.decode("utf-8").split("\n", 1)[0].rstrip("\r")
        except UnicodeDecodeError:
            raise _wrong(f"{path} is not a text file in UTF-8") from None
        except OSError as error:
            raise _wrong(f"cannot read {path}: {error.strerror}") from None
    if not value:
        raise _wrong("an empty text")
    return value
