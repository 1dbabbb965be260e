"""All routers of a network started at once, until each knows every other."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from random import Random
from time import process_time

from tests.simulation.oracle import wrong_paths
from van.testing import ControlNetwork, random_regular

# More than it may take on a small machine, in simulated seconds.
LIMIT = 60.0


@dataclass
class ColdStart:
    """What a cold start took."""

    seed: int
    routers: int
    simulated: float
    cpu_seconds: float
    control_messages: int
    events: int
    failures: list[str]

    def __str__(self) -> str:
        return (
            f"seed {self.seed:8d}  {self.routers} routers  cold start: converged after {self.simulated:.1f} s,"
            f" {self.control_messages} messages, {self.events} events, {self.cpu_seconds:.1f} s of CPU time"
            f"  {'FAILED ' + '; '.join(self.failures) if self.failures else 'ok'}"
        )


def cold_start(seed: int, routers: int) -> ColdStart:
    """Start a random network with four connections at every router, an address at each; wait until all is known."""
    gc.disable()
    try:
        network = ControlNetwork(seed, whole_paths=True, drift=0.001, offset=1000.0)
        begin = process_time()
        network.build(random_regular(routers, 4, Random(seed)))
        for number, router in enumerate(network.hosts):
            network.advertise(router, f"Mq.{number}")
        simulated = network.run_until(network.converged, LIMIT, 0.2)
        cpu = process_time() - begin
        failures = wrong_paths(network)[:10]
    finally:
        gc.enable()
    return ColdStart(seed, routers, simulated, cpu, network.control_messages, network.events, failures)
