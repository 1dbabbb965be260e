"""Site files: from TOML to a checked `SiteConfig`, or every mistake at once.

tomlkit parses, cattrs builds the classes of `sections.py` key by key, `checks.py` looks at what keys mean together.
A mistake anywhere spoils nothing else: whatever could be read goes on to the next step, so that one run reports all.
Nothing here opens a socket or changes the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import cattrs
import tomlkit
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override
from tomlkit.exceptions import ParseError, TOMLKitError

from van.router import checks, service_checks
from van.router.positions import KeyPath, Positions
from van.router.sections import (
    AddressConfig,
    AutoLinkConfig,
    ConnectorConfig,
    DnsConfig,
    ListenerConfig,
    LogConfig,
    RouterConfig,
    ServiceConfig,
    SslProfileConfig,
)
from van.router.values import NOT_AVAILABLE, Context, InvalidValueError, Problem, listing, show, show_size, unknown_key

if TYPE_CHECKING:
    from van.router.authentication import Users

EMBEDDED_DEFAULT = """\
[router]
mode = "standalone"

[[listener]]
url = "amqp://127.0.0.1:5672"
"""

# A site file is written by people; tomlkit needs about a microsecond and some hundred octets of memory per octet.
SITE_FILE_LIMIT = 4 * 1024 * 1024

SINGLE_SECTIONS: dict[str, type] = {"router": RouterConfig, "log": LogConfig}
REPEATED_SECTIONS: dict[str, type] = {
    "listener": ListenerConfig,
    "connector": ConnectorConfig,
    "ssl_profile": SslProfileConfig,
    "address": AddressConfig,
    "auto_link": AutoLinkConfig,
    "service": ServiceConfig,
    "dns": DnsConfig,
}
SECTIONS = (*SINGLE_SECTIONS, *REPEATED_SECTIONS)

# What site files of later versions or of the deployed routers hold.
SECTIONS_LATER = (
    "http", "policy", "vhost", "link_route", "network", "site",
    "tcp_listener", "tcp_connector", "mqtt", "udp",
)  # fmt: skip

_USE_URL = 'use "url"'
_USE_WAYPOINT = "use waypoint in [[address]]"
# Attributes of the deployed routers that van has under another name, or not yet: key -> what to do.
KEYS_ELSEWHERE = {
    "host": _USE_URL, "port": _USE_URL, "http": _USE_URL, "websockets": _USE_URL,
    "require_ssl": "use an amqps or wss URL", "require_encryption": "use an amqps or wss URL",
    "socket_address_family": "use an IPv4 or IPv6 address in \"url\"",
    "proxy_profile": 'use "proxy"',
    "sasl_config_dir": 'use "users_file"', "sasl_config_name": 'use "users_file"',
    "worker_threads": 'use "workers", which are processes',
    "ingress_phase": _USE_WAYPOINT, "egress_phase": _USE_WAYPOINT, "phase": _USE_WAYPOINT,
    **dict.fromkeys((
        "unreachable_holdoff_seconds", "data_connection_count", "van_id",
        "strip_annotations", "healthz", "metrics", "http_root_dir", "message_logging_components", "policy_vhost",
        "open_properties", "allow_redirect", "uid_name_mapping_file", "ordinal", "oldest_valid_ordinal",
        "enable_fallback", "fallback", "multi_tenant",
    ), ""),
}  # fmt: skip


class ConfigurationError(Exception):
    """A configuration that cannot be used. `lines` has one `FILE:LINE:COLUMN: key: what; …` for every mistake."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        super().__init__("\n".join(self.lines))


@attrs.frozen(kw_only=True)
class SiteConfig:
    """What a site file says, with every default filled in. `path` is None for the embedded default."""

    path: Path | None
    router: RouterConfig
    log: LogConfig
    listeners: tuple[ListenerConfig, ...]
    connectors: tuple[ConnectorConfig, ...]
    ssl_profiles: dict[str, SslProfileConfig]
    addresses: tuple[AddressConfig, ...]
    auto_links: tuple[AutoLinkConfig, ...]
    services: tuple[ServiceConfig, ...]
    dns: tuple[DnsConfig, ...]
    users: Users | None
    # Texts for the log: allowed, and worth a second thought.
    warnings: tuple[str, ...]


def default_config() -> SiteConfig:
    """The embedded default: a standalone router for the programs of this machine."""
    return parse_config(EMBEDDED_DEFAULT, "default", Path.cwd())


def load_config(path: Path) -> SiteConfig:
    """Read and check a site file. Raises `ConfigurationError` with everything that is wrong."""
    return attrs.evolve(parse_config(read_text(path, SITE_FILE_LIMIT), str(path), path.parent), path=path)


def read_text(path: Path, limit: int) -> str:
    """A configuration file of at most `limit` octets; `ConfigurationError` when it cannot be read as UTF-8."""
    try:
        with path.open("rb") as stream:
            octets = stream.read(limit + 1)
    except OSError as error:
        raise ConfigurationError([f"{path}:1:1: cannot read the file: {error.strerror}"]) from None
    if len(octets) > limit:
        raise ConfigurationError([f"{path}:1:1: the file is too large; allowed: at most {show_size(limit)}"])
    try:
        return octets.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        column = error.start - octets.rfind(b"\n", 0, error.start)
        raise ConfigurationError([f"{path}:{line}:{column}: not UTF-8"]) from None


def parse_config(text: str, file_name: str, folder: Path) -> SiteConfig:
    """Like `load_config`, from a text. Relative file names in it start at `folder`."""
    plain = parse_toml(text, file_name)
    found, problems = _read_sections(plain, Context(folder))
    problems += checks.check(found)
    problems += service_checks.check(found)
    users, user_lines = _read_users(found)
    if problems or user_lines:
        raise ConfigurationError([*error_lines(problems, text, file_name), *user_lines])
    return _assemble(found, users)


def read_service(plain: dict[str, Any], running: SiteConfig) -> ServiceConfig:
    """A service that is added to a running site, from its keys. Raises `ConfigurationError`."""
    folder = running.path.parent if running.path is not None else Path.cwd()
    found, problems = _read_sections({"service": [plain]}, Context(folder))
    found.repeated["ssl_profile"] = dict(enumerate(running.ssl_profiles.values()))
    found.raw["ssl_profile"] = [{"name": name} for name in running.ssl_profiles]
    problems += service_checks.check(found)
    if problems:
        lines = [f"{show_path(problem.path[2:])}: {problem.text()}".removeprefix(": ") for problem in problems]
        raise ConfigurationError(lines)
    (entry,) = found.entries("service")
    assert isinstance(entry, ServiceConfig)
    return entry


def parse_toml(text: str, file_name: str) -> dict[str, Any]:
    """TOML as plain Python values; `ConfigurationError` with line and column when it is not TOML."""
    try:
        return tomlkit.parse(text).unwrap()
    except ParseError as error:
        what = str(error).rsplit(" at line ", 1)[0]
        raise ConfigurationError([f"{file_name}:{error.line}:{error.col + 1}: not TOML: {what}"]) from None
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise ConfigurationError([f"{file_name}:1:1: not TOML: {error}"]) from None


def error_lines(problems: Iterable[Problem], text: str, file_name: str) -> list[str]:
    """Problems as lines, in the order of the text. `text` must be valid TOML."""
    positions = Positions(text)
    lines: list[tuple[int, int, str]] = []
    for problem in problems:
        line, column = (positions.of_key if problem.at_key else positions.of_value)(problem.path)
        lines.append((line, column, f"{file_name}:{line}:{column}: {show_path(problem.path)}: {problem.text()}"))
    return [line for _, _, line in sorted(lines, key=lambda entry: entry[:2])]


def show_path(path: KeyPath) -> str:
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            simple = part.replace("-", "").replace("_", "").isalnum()
            shown += ("." if shown else "") + (part if simple else show(part))
    return shown


def _read_sections(plain: dict[str, Any], context: Context) -> tuple[checks.Found, list[Problem]]:
    converter = _converter(context)
    found = checks.Found()
    problems: list[Problem] = []

    def build(path: KeyPath, value: object, cls: type) -> Any:
        if not isinstance(value, dict):
            problems.append(Problem(path, f"expected a table, got {show(value)}"))
            return None
        try:
            return converter.structure(value, cls)
        except ClassValidationError as group:
            own = _problems_of(group, cls)
            problems.extend(problem.below(path) for problem in own)
        # Without the keys that are wrong, the others can still be looked at together.
        wrong = {problem.path[0] for problem in own}
        found.wrong.update((*path, key) for key in wrong)
        try:
            return converter.structure({key: inner for key, inner in value.items() if key not in wrong}, cls)
        except ClassValidationError:
            return None

    for name, value in plain.items():
        if name in SINGLE_SECTIONS:
            if isinstance(value, list):
                problems.append(Problem((name,), f"expected one [{name}], got a list of them", at_key=True))
            else:
                found.single[name] = build((name,), value, SINGLE_SECTIONS[name])
        elif name in REPEATED_SECTIONS:
            if not isinstance(value, list):
                what, hint = f"expected a list of tables, got {show(value)}", f"write [[{name}]]"
                problems.append(Problem((name,), what, hint=hint, at_key=True))
                continue
            found.raw[name] = [entry for entry in value if isinstance(entry, dict)]
            entries = [build((name, index), entry, REPEATED_SECTIONS[name]) for index, entry in enumerate(value)]
            found.repeated[name] = {index: entry for index, entry in enumerate(entries) if entry is not None}
        elif name in SECTIONS_LATER:
            problems.append(Problem((name,), NOT_AVAILABLE, listing(SECTIONS), at_key=True))
        else:
            problems.append(unknown_key((name,), SECTIONS))
    for name, cls in SINGLE_SECTIONS.items():
        if found.single.get(name) is None:
            found.single[name] = converter.structure({}, cls)
            if name in plain:
                found.wrong.add((name,))
    return found, problems


def _converter(context: Context) -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    for cls in (*SINGLE_SECTIONS.values(), *REPEATED_SECTIONS.values()):
        overrides: dict[str, Any] = {
            field.name: override(struct_hook=_hook(field.metadata["reader"], context)) for field in attrs.fields(cls)
        }
        structure: Any = make_dict_structure_fn(
            cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True, **overrides
        )
        converter.register_structure_hook(cls, structure)
    return converter


def _hook(reader: Any, context: Context) -> Any:
    return lambda value, _type: reader(value, context)


def _problems_of(group: ClassValidationError, cls: type) -> list[Problem]:
    """What cattrs found wrong with one table."""
    known = [field.name for field in attrs.fields(cls)]
    with_notes, others = group.group_exceptions()
    problems: list[Problem] = []
    for error, note in with_notes:
        if isinstance(error, InvalidValueError):
            problems += (problem.below((note.name,)) for problem in error.problems)
        elif isinstance(error, KeyError):
            problems.append(Problem((note.name,), "missing", at_key=True))
        else:
            raise error
    for other in others:
        if not isinstance(other, ForbiddenExtraKeysError):
            raise other
        for extra in sorted(other.extra_fields):
            hint = KEYS_ELSEWHERE.get(extra)
            if cls is ServiceConfig and extra in ("url", "host", "port"):
                hint = 'use "listen" or "connect"'
            if hint is None:
                problems.append(unknown_key((extra,), known))
            else:
                problems.append(Problem((extra,), NOT_AVAILABLE if not hint else "unknown key", "", hint, at_key=True))
    return problems


def _read_users(found: checks.Found) -> tuple[Users | None, list[str]]:
    users_file = found.single["router"].users_file
    if users_file is None:
        return None, []
    from van.router.authentication import load_users

    mechanisms = {mechanism for listener in found.entries("listener") for mechanism in listener.sasl_mechanisms}
    try:
        return load_users(users_file, mechanisms), []
    except ConfigurationError as error:
        return None, error.lines


def _assemble(found: checks.Found, users: Users | None) -> SiteConfig:
    profiles = {profile.name: profile for profile in found.entries("ssl_profile")}
    return SiteConfig(
        path=None,
        router=found.single["router"],
        log=found.single["log"],
        listeners=tuple(_named(map(checks.complete_listener, found.entries("listener")), checks.listener_name)),
        connectors=tuple(
            _named(
                (checks.complete_connector(entry, profiles) for entry in found.entries("connector")),
                checks.connector_name,
            )
        ),
        ssl_profiles=profiles,
        addresses=tuple(
            attrs.evolve(entry, name=entry.name or entry.prefix or entry.pattern) for entry in found.entries("address")
        ),
        auto_links=tuple(_named(found.entries("auto_link"), _about)),
        services=tuple(_named(found.entries("service"), service_name)),
        dns=tuple(_named(found.entries("dns"), lambda entry: f"dns/{entry.listen.host_and_port}")),
        users=users,
        warnings=tuple(checks.warnings(found)),
    )


def service_name(entry: ServiceConfig) -> str:
    """What a service is called that was given no name."""
    return f"{'listen' if entry.listen is not None else 'connect'}/{entry.url.host_and_port}"


def _about(entry: AutoLinkConfig) -> str:
    return f"{entry.direction}/{entry.connection or entry.container_id}/{entry.address or entry.external_address}"


def _named(entries: Iterable[Any], name_of: Callable[[Any], str]) -> Iterable[Any]:
    """Give those a name that have none: what `name_of` says, counted where that is taken (two on port 0)."""
    entries = list(entries)
    taken = {entry.name for entry in entries}
    for entry in entries:
        if entry.name:
            yield entry
            continue
        name = wanted = name_of(entry)
        count = 1
        while name in taken:
            count += 1
            name = f"{wanted}/{count}"
        taken.add(name)
        yield attrs.evolve(entry, name=name)
