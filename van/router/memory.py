"""How much memory a router may use for messages when its configuration does not say.

A quarter of what the process may have: the machine's memory, or its control group's limit when that is lower, as in a
container. The other three quarters are for the interpreter, for connections and for the machine's other programs.
"""

from __future__ import annotations

import os
from pathlib import Path

MIB = 1024 * 1024

# Below this the byte budget is too small for a handful of connections at full speed; small machines swap rather than
# stop, and who wants less says so with `memory_limit`.
MINIMUM_DEFAULT = 128 * MIB

# Used where the system tells nothing about its memory (no sysconf, as on Windows).
UNKNOWN_MEMORY = 1024 * MIB

SHARE = 4


def default_memory_limit(root: Path = Path("/")) -> int:
    """Return the default of `memory_limit` in octets. `root` is where `/proc` and `/sys` are found."""
    limits = [_physical_memory(), *_cgroup_limits(root)]
    return max(min(limits) // SHARE, MINIMUM_DEFAULT)


def _physical_memory() -> int:
    try:
        octets = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return UNKNOWN_MEMORY
    return octets if octets > 0 else UNKNOWN_MEMORY


def _cgroup_limits(root: Path) -> list[int]:
    """The limits of this process's control group and of all groups above it, versions 1 and 2."""
    try:
        memberships = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    limits: list[int] = []
    for line in memberships:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            limits += _limits_upwards(root / "sys/fs/cgroup", group, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits_upwards(root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes")
    return limits


def _limits_upwards(mount: Path, group: str, name: str) -> list[int]:
    # Inside a container the group's own path is often not visible, and its limit is at the mount point.
    names = [part for part in group.split("/") if part not in {"", ".", ".."}]
    limits = []
    for depth in range(len(names), -1, -1):
        try:
            text = mount.joinpath(*names[:depth], name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdecimal() and int(text) > 0:
            limits.append(int(text))
    return limits
