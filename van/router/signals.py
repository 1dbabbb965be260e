"""What signals do: drain and end, reload, describe."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import trio

from van.router.config import ConfigurationError, load_config
from van.router.log import get_logger

if TYPE_CHECKING:
    from van.router.site import Site

# How long clients may take to close after the first signal, in seconds; then their connections are cut.
DRAIN_SECONDS: Final = 10.0

_END: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT") if hasattr(signal, name))
_OTHERS: Final = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name))


async def watch_signals(
    site: Site, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve signals for ever; the second that asks for the end cancels `everything`."""
    logger = get_logger("router")
    ending = False
    with trio.open_signal_receiver(*_END, *_OTHERS) as signals:
        task_status.started()
        async with trio.open_nursery() as nursery:
            async for number in signals:
                name = signal.Signals(number).name
                if number not in _END:
                    (reload if name == "SIGHUP" else describe)(site)
                elif ending:
                    logger.warning("stopping now", signal=name)
                    everything.cancel()
                else:
                    ending = True
                    logger.info("draining", signal=name, connections=len(site.adaptors), seconds=DRAIN_SECONDS)
                    site.drain()
                    nursery.start_soon(_cut_after, DRAIN_SECONDS, everything)


async def _cut_after(seconds: float, everything: trio.CancelScope) -> None:
    await trio.sleep(seconds)
    get_logger("router").warning("stopping now", reason=f"connections were not closed within {seconds:g} s")
    everything.cancel()


def reload(site: Site) -> None:
    """Read the site file again: take over what can be, and say what needs a restart. A bad file changes nothing."""
    logger = get_logger("router")
    path = site.config.path
    site.refresh_certificates()
    if path is None:
        logger.warning("nothing to reload", reason="the router runs on the embedded default")
        return
    try:
        config = load_config(path)
    except ConfigurationError as error:
        logger.error(  # noqa: TRY400 - the operator's fault, not the code's
            "configuration not reloaded, the old one stays", errors=str(error)
        )
        return
    taken, restart = site.reload(config)
    logger.info("configuration reloaded", taken=taken, restart_needed=restart)


def describe(site: Site) -> None:
    """Write what there is to the log: connections, links, addresses, bytes held."""
    logger = get_logger("router")
    budget = site.router.budget
    logger.info(
        "state",
        connections=len(site.adaptors),
        addresses=len(site.router.addresses),
        held=budget.held(),
        promised=budget.promised(),
        memory_limit=budget.limit,
        tasks=trio.lowlevel.current_statistics().tasks_living,
    )
    for number, (adaptor, info) in sorted(site.adaptors.items()):
        logger.info("connection", connection=number, peer=info.peer, transport=info.transport, links=len(adaptor.links))
        for link, owner in adaptor.links.items():
            logger.info(
                "link",
                connection=number,
                link=link.name,
                address=owner.address.key,
                role="receiver" if link.role else "sender",
                credit=link.link_credit,
                delivery_count=link.delivery_count,
            )
