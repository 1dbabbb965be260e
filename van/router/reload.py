"""Reading the site file again while the router runs: what changed, what of it can be taken over, and doing so.

Which keys may change is declared with them in `sections.py`. All or nothing: a file with a mistake changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import trio

from van.router.config import ConfigurationError, SiteConfig, load_config
from van.router.log import get_logger
from van.router.services import ServiceError
from van.router.site import Site
from van.transport.tls import refresh_certificates


def changes(old: SiteConfig, new: SiteConfig) -> tuple[list[str], list[str]]:
    """The keys that differ: those that can be taken over while running, and those that need a restart.

    A key is named as an operator writes it: `router.memory_limit`, `listener "here".max_links`; a section that has come
    or gone by itself: `connector "hub"`.
    """
    live: list[str] = []
    restart: list[str] = []
    for name, before, after in (("router", old.router, new.router), ("log", old.log, new.log)):
        _compare(f"{name}.", before, after, live, restart)
    if old.addresses != new.addresses:
        live.append("address")
    if old.auto_links != new.auto_links:
        live.append("auto_link")
    for name, before_all, after_all in (
        ("listener", _by_name(old.listeners), _by_name(new.listeners)),
        ("connector", _by_name(old.connectors), _by_name(new.connectors)),
        ("ssl_profile", old.ssl_profiles, new.ssl_profiles),
        ("service", _by_name(old.services), _by_name(new.services)),
        ("dns", _by_name(old.dns), _by_name(new.dns)),
    ):
        _compare_all(name, before_all, after_all, live, restart)
    return live, restart


def _by_name(entries: Iterable[Any]) -> dict[str, Any]:
    return {entry.name: entry for entry in entries}


def _compare_all(
    kind: str, before: Mapping[str, Any], after: Mapping[str, Any], live: list[str], restart: list[str]
) -> None:
    for name in {**before, **after}:
        if name in before and name in after:
            _compare(f'{kind} "{name}".', before[name], after[name], live, restart)
        else:
            # A profile that is new may be that of a new service; one that is gone does no harm.
            taken = kind == "service" or (kind == "ssl_profile" and name in after)
            (live if taken else restart).append(f'{kind} "{name}"')


def _compare(prefix: str, before: Any, after: Any, live: list[str], restart: list[str]) -> None:
    for field in attrs.fields(type(before)):
        if getattr(before, field.name) != getattr(after, field.name):
            (live if field.metadata["live"] else restart).append(prefix + field.name)


def taken_over(old: SiteConfig, new: SiteConfig) -> SiteConfig:
    """The configuration that is in force after a reload: the old one with what can change from the new one."""
    return attrs.evolve(
        old,
        router=_with_live(old.router, new.router),
        log=_with_live(old.log, new.log),
        listeners=tuple(
            _with_live(entry, _by_name(new.listeners).get(entry.name, entry)) for entry in old.listeners
        ),
        addresses=new.addresses,
        auto_links=new.auto_links,
        ssl_profiles={**new.ssl_profiles, **old.ssl_profiles},
        services=new.services,
        users=new.users if new.users is not None else old.users,
    )


def _with_live(before: Any, after: Any) -> Any:
    return attrs.evolve(
        before,
        **{field.name: getattr(after, field.name) for field in attrs.fields(type(before)) if field.metadata["live"]},
    )


def read(running: SiteConfig) -> SiteConfig:
    """Read the site file of a running site, and its users file. Raises `ConfigurationError` with everything wrong."""
    assert running.path is not None
    config = load_config(running.path)
    if config.router.users_file is not None and config.users is not None:
        from van.router.authentication import load_users

        # Listeners keep their mechanisms until a restart: users have to be ready for those.
        mechanisms = _mechanisms(running)
        if not mechanisms <= _mechanisms(config):
            config = attrs.evolve(config, users=load_users(config.router.users_file, mechanisms))
    return config


def _mechanisms(config: SiteConfig) -> set[str]:
    return {mechanism for listener in config.listeners for mechanism in listener.sasl_mechanisms}


async def reload(site: Site) -> None:
    """Take over what can be, and say in one line what was and what needs a restart. A bad file changes nothing."""
    logger = get_logger("router")
    if site.config.path is None:
        logger.warning("nothing to reload", reason="the router runs on the embedded default")
        return
    async with site.reloading:
        try:
            # In a thread: keys for many users take seconds, and messages go on meanwhile.
            config = await trio.to_thread.run_sync(read, site.config)
        except ConfigurationError as error:
            logger.error(  # noqa: TRY400 - the operator's fault, not the code's
                "configuration not reloaded, the old one stays", errors=error.lines
            )
            return
        live, restart = changes(site.config, config)
        in_force = taken_over(site.config, config)
        try:
            services = await site.services.prepare(in_force.services, in_force.ssl_profiles)
        except ServiceError as error:
            logger.error(  # noqa: TRY400 - as above
                "configuration not reloaded, the old one stays", errors=[str(error)]
            )
            return
        site.take_over(in_force)
        site.services.commit(services)
        site.wake()
        if config.users is not None:
            live.append("users")
        logger.info("configuration reloaded", taken_over=live, needs_restart=restart)
        refresh_certificates(site.credentials.values(), logger)
