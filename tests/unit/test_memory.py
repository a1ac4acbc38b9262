"""What a control group's memory limit leaves for clients.

Modules: transport.buffers.
"""

import ctypes
import re
from pathlib import Path

import pytest

from echoserver.config import limits, memory, values
from echoserver.config import options as config
from echoserver.config.memory import MIB
from echoserver.transport.buffers import BufferPool

V1_NONE = "9223372036854771712"


def written(root: Path, files: dict[str, str]) -> dict[str, str]:
    """Files of /proc/self ("cgroup") and of /sys/fs/cgroup, and where limit() finds them."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="ascii")
    return {"proc": str(root / "cgroup"), "mount": str(root / "sys")}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cgroup": "0::/", "sys/memory.max": "67108864"}, 64 * MIB),  # a container
        ({"cgroup": "0::/", "sys/memory.max": "max"}, None),
        ({"cgroup": "0::/"}, None),  # the root of all has no such file
        ({}, None),
        ({"cgroup": "0::/a/b", "sys/a/b/memory.max": "64", "sys/a/memory.max": "32"}, 32),  # the parent's is smaller
        ({"cgroup": "0::/a/b", "sys/a/b/memory.max": "32", "sys/a/memory.max": "max", "sys/memory.max": "64"}, 32),
        ({"cgroup": "0::/not/here", "sys/memory.max": "64"}, 64),  # the host's path in a container
        ({"cgroup": "0::/../other", "sys/memory.max": "64"}, 64),
        ({"cgroup": "5:cpu:/x\n4:memory:/", "sys/memory/memory.limit_in_bytes": "64"}, 64),
        ({"cgroup": "4:memory:/", "sys/memory/memory.limit_in_bytes": V1_NONE}, None),
        ({"cgroup": "4:hugetlb,memory:/docker/x", "sys/memory/memory.limit_in_bytes": "64"}, 64),
        ({"cgroup": "4:memory:/a/b\n0::/", "sys/memory/a/memory.limit_in_bytes": "32"}, 32),
        ({"cgroup": "nonsense\n0::/", "sys/memory.max": "much"}, None),
    ],
)
def test_memory_limit(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    assert memory.limit(**written(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("limit", "workers", "total", "one", "socket_buffer"),
    [
        (None, 1, "256MiB", "16MiB", None),
        (32, 1, "2MiB", "512KiB", "8KiB"),
        (64, 1, "10MiB", "2560KiB", "20KiB"),
        (64, 2, "2560KiB", "640KiB", "8KiB"),
        (128, 1, "26MiB", "6656KiB", "52KiB"),
        (1024, 1, "250MiB", "16MiB", "500KiB"),
        (4096, 1, "256MiB", "16MiB", None),
        (4096, 16, "60352KiB", "15088KiB", "117KiB"),
    ],
)
def test_what_a_memory_limit_leaves(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, workers: int, total: str, one: str, socket_buffer: str | None
) -> None:
    size = None if limit is None else limit * MIB
    monkeypatch.setattr(memory, "limit", lambda: size)
    found = config.parse({"workers": str(workers)})
    assert (found.buffer_total, found.buffer_limit) == (values.size(total), values.size(one))
    assert found.memory_limit == size
    buffer = None if size is None else memory.socket_buffer(size, workers)
    assert (buffer and buffer >> 10) == (socket_buffer and values.size(socket_buffer) >> 10)


def test_memory_that_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "limit", lambda: 32 * MIB)
    found = config.parse({"buffer_total": "64MiB"})
    assert (found.buffer_total, found.buffer_limit, found.memory_limit) == (64 * MIB, 16 * MIB, None)
    assert config.parse({"buffer_limit": "64KiB"}).buffer_limit == 1 << 16


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_memory_of_so_many_workers(workers: int) -> None:
    least = memory.least(workers)
    assert memory.workers_within(least) == workers
    assert memory.workers_within(least - 1) == max(1, workers - 1)
    assert memory.buffer_total(least, workers) == MIB


def test_workers_auto_are_no_more_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "cgroup_cpus", lambda: 8.0)
    monkeypatch.setattr(memory, "limit", lambda: 64 * MIB)
    assert config.workers("auto") == 2
    monkeypatch.setattr(memory, "limit", lambda: None)
    assert config.workers("auto") == 8


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without huge pages")
def test_memory_of_a_large_buffer_is_taken_as_it_is_written_to() -> None:
    """Also where the kernel gives huge pages to everybody: 150 clients that claimed 2 MiB each took 300."""
    buffer = BufferPool().take(128 * MIB)
    assert len(buffer) == 128 * MIB
    first = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    mappings = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(encoding="utf-8"))
    # The kernel joins neighbours that are alike: the mapping may begin before the buffer.
    [mapping] = [each for each in mappings if first in range(*(int(end, 16) for end in each.split()[0].split("-")))]
    assert " nh" in mapping[mapping.index("VmFlags:") :]


def test_memory_for_the_next_time_is_no_more_than_the_limit_has_room_for() -> None:
    pool = BufferPool(MIB)
    for _ in range(3):
        pool.give(memoryview(bytearray(MIB // 2)))
    assert pool._kept == MIB


@pytest.mark.parametrize(("size", "said"), [(64 << 10, "64 KiB"), (16 * MIB, "16 MiB"), (2560 << 10, "2.5 MiB")])
def test_sizes_for_people(size: int, said: str) -> None:
    assert memory.said(size) == said
