"""The sockets of services over UDP, in the shape that those over TCP have (`service_listener.py`).

A port is always open: nobody is turned away at the door of UDP, and what cannot be passed on is lost and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from van.transport.service_listener import ServiceEndpoint
from van.transport.service_url import ServiceUrl
from van.transport.udp import UdpPort, UdpServer

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from van.adaptors.udp.connector import UdpConnector
    from van.adaptors.udp.listener import UdpListener


class DatagramEndpoint(ServiceEndpoint):
    """What both ends have in common: a fault of ours ends this service, and no other."""

    _driver: UdpPort | UdpServer

    def __init__(
        self,
        service: UdpListener | UdpConnector,
        url: ServiceUrl,
        wake_touched: Callable[[], None],
        logger: FilteringBoundLogger,
        *,
        guarded: bool = True,
    ) -> None:
        super().__init__(service, url, wake_touched, logger, guarded=guarded)
        self.datagrams = service
        self._up = False

    @property
    def connections(self) -> int:
        return self.datagrams.flows

    @property
    def status(self) -> str:
        return "up" if self._up else "down"

    async def run(self) -> None:
        self._up = not self._stopping.is_set()
        try:
            await self._guard(self._serve, str(self.url))
        finally:
            self._up = False
            if self.failed:
                self.message = "it has failed, see the log"
            self.stop()

    async def _serve(self) -> None:
        """Until `stop`."""
        raise NotImplementedError

    def stop(self) -> None:
        self._driver.stop()
        super().stop()

    def stop_serving(self) -> None:
        self.stop()

    def close_all(self, condition: str, description: str) -> None:
        """There is nobody to tell: flows end with the service."""


class DatagramPort(DatagramEndpoint):
    """The port of a listening service."""

    def __init__(
        self,
        service: UdpListener,
        url: ServiceUrl,
        wake_touched: Callable[[], None],
        logger: FilteringBoundLogger,
        *,
        guarded: bool = True,
    ) -> None:
        super().__init__(service, url, wake_touched, logger, guarded=guarded)
        self._driver: UdpPort = UdpPort(service, url.host, url.port, wake_touched)

    @property
    def port(self) -> int:
        return self._driver.port

    @property
    def addresses(self) -> list[str]:
        return self._driver.addresses

    async def bind(self) -> None:
        await self._driver.bind()

    async def _serve(self) -> None:
        self._logger.info("service listening", address=self._service.address, listening=self.addresses)
        await self._driver.serve()


class DatagramDialer(DatagramEndpoint):
    """The sockets of a connecting service."""

    def __init__(
        self,
        service: UdpConnector,
        url: ServiceUrl,
        wake_touched: Callable[[], None],
        logger: FilteringBoundLogger,
        *,
        guarded: bool = True,
    ) -> None:
        super().__init__(service, url, wake_touched, logger, guarded=guarded)
        self._driver: UdpServer = UdpServer(service, url.host, url.port, wake_touched)

    async def _serve(self) -> None:
        await self._driver.run()
