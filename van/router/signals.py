"""What signals do: drain and stop, read the site file again, describe what there is."""

from __future__ import annotations

import signal
from typing import Final

import trio

from van.router.describe import describe
from van.router.log import get_logger
from van.router.reload import reload
from van.router.site import Site

END: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT") if hasattr(signal, name))
# Not on Windows.
OTHERS: Final = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name))


async def watch_signals(site: Site, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve signals for ever. What takes long runs beside, so that the end is never waited for."""
    logger = get_logger("router")
    with trio.open_signal_receiver(*END, *OTHERS) as signals:
        task_status.started()
        async with trio.open_nursery() as nursery:
            async for number in signals:
                name = signal.Signals(number).name
                if name == "SIGHUP":
                    nursery.start_soon(reload, site)
                elif name == "SIGUSR1":
                    nursery.start_soon(describe, site)
                elif site.draining:
                    logger.warning("stopping now", reason=name, in_flight=site.in_flight())
                    site.stop()
                else:
                    site.drain(name)
