"""Whole networks of routers in one process, with a virtual clock: for tests, experiments and benchmarks.

    network = ControlNetwork(seed=7)
    network.build(ring(50))
    network.run(10)
    assert network.differences() == []

A network has no sockets and no tasks: every event lies on one heap, in the order of its time, and all chance is drawn
from one seed. The same program with the same seed is the same run, to the last octet. `ControlNetwork` runs the link
state engines of routers alone, a thousand of them; `RouterNetwork` runs whole routers by bytes, tens of them, with
senders and receivers attached. Both break in the same ways: links are cut or fall silent, the network is parted,
routers are killed, restarted and stopped, messages are lost, clocks run fast.
"""

from van.testing.applications import Application as Application
from van.testing.applications import Receiver as Receiver
from van.testing.applications import Sender as Sender
from van.testing.applications import Sending as Sending
from van.testing.control_network import ControlNetwork as ControlNetwork
from van.testing.control_network import EngineStation as EngineStation
from van.testing.network import Clock as Clock
from van.testing.network import Edge as Edge
from van.testing.network import End as End
from van.testing.network import Host as Host
from van.testing.network import Station as Station
from van.testing.network import VirtualNetwork as VirtualNetwork
from van.testing.router_network import RouterNetwork as RouterNetwork
from van.testing.router_network import RouterStation as RouterStation
from van.testing.topologies import Topology as Topology
from van.testing.topologies import full_mesh as full_mesh
from van.testing.topologies import grid as grid
from van.testing.topologies import line as line
from van.testing.topologies import random_network as random_network
from van.testing.topologies import random_regular as random_regular
from van.testing.topologies import ring as ring
from van.testing.topologies import star as star
from van.testing.virtual_time import VirtualTime as VirtualTime
