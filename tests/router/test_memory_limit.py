"""The default of `memory_limit`: a quarter of the memory, of the control group's limit where that is lower."""

from __future__ import annotations

from pathlib import Path

import pytest

from van.router import memory
from van.router.memory import MIB, default_memory_limit

GIB = 1024 * MIB


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 16 GiB whose files a scene writes."""
    monkeypatch.setattr(memory, "_physical_memory", lambda: 16 * GIB)
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_without_control_groups_it_is_a_quarter_of_the_machine(root: Path) -> None:
    assert default_memory_limit(root) == 4 * GIB


def test_a_small_machine_has_at_least_128_mib(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_physical_memory", lambda: 256 * MIB)
    assert default_memory_limit(root) == 128 * MIB


def test_a_control_group_of_version_2_is_honoured(root: Path) -> None:
    write(root, {"proc/self/cgroup": "0::/system.slice/van.service\n",
                 "sys/fs/cgroup/system.slice/van.service/memory.max": "2147483648\n"})  # fmt: skip
    assert default_memory_limit(root) == 512 * MIB


def test_the_lowest_limit_of_all_groups_above_counts(root: Path) -> None:
    write(root, {"proc/self/cgroup": "0::/a/b\n",
                 "sys/fs/cgroup/a/b/memory.max": "max\n",
                 "sys/fs/cgroup/a/memory.max": "1073741824\n"})  # fmt: skip
    assert default_memory_limit(root) == 256 * MIB


def test_inside_a_container_the_limit_is_at_the_mount_point(root: Path) -> None:
    write(root, {"proc/self/cgroup": "0::/docker/0123/../..\n", "sys/fs/cgroup/memory.max": "1073741824\n"})
    assert default_memory_limit(root) == 256 * MIB


def test_a_control_group_of_version_1_is_honoured(root: Path) -> None:
    write(root, {"proc/self/cgroup": "5:cpu:/x\n4:memory:/x\n0::/y\n",
                 "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "1073741824\n"})  # fmt: skip
    assert default_memory_limit(root) == 256 * MIB


@pytest.mark.parametrize("text", ["9223372036854771712\n", "max\n", "garbage\n", "0\n", ""])
def test_no_limit_is_no_limit(root: Path, text: str) -> None:
    write(root, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": text})
    assert default_memory_limit(root) == 4 * GIB


def test_the_real_machine_has_one_too() -> None:
    assert default_memory_limit() >= 128 * MIB
