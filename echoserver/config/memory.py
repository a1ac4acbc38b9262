"""What the memory limit of a control group leaves for what is kept for clients, and for the kernel's socket buffers."""

import os
from collections.abc import Iterator

MIB = 1 << 20

_SERVER = 4 * MIB  # what a server takes besides its workers
_WORKER = 20 * MIB  # a worker, all its memory of its own by then; an idle server takes 20 with one, 36 with two
_MOST_KEPT, _MOST_KEPT_FOR_ONE = 256 * MIB, 16 * MIB
_LEAST_ROOM = 4 * MIB  # for a worker's clients: with less it would be of no use

# Of the room, a quarter may be kept, which takes up to 2.3 times as much where contents are put together or described.
# Half is for the kernel: it charges a group for the buffers of its TCP connections, which can grow to 6 MiB and more
# each, and ends a process when it can't be given a page. So many connections with full buffers of both directions, in
# each of which the kernel takes twice of what it is told, fit into that half.
_CONNECTIONS = 256
_LEAST_SOCKET_BUFFER = 8 << 10  # with less, every segment would wait for the one before
_MOST_SOCKET_BUFFER = MIB  # from here on the kernel may choose: what it grows them to fits in as often


def limit(proc: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup") -> int | None:
    """The memory limit of this process's control group, or of one that it is in, in bytes; None without one.

    Version 2: memory.max, version 1: memory.limit_in_bytes. In a container the group may be what is mounted.
    """
    found = []
    for path in _files(proc, mount):
        try:
            with open(path, encoding="ascii") as file:
                text = file.read().strip()
        except (OSError, ValueError):
            continue
        if text.isdigit() and int(text) < 1 << 60:  # version 1 says "none" in pages that fit into 63 bits
            found.append(int(text))
    return min(found, default=None)


def _files(proc: str, mount: str) -> Iterator[str]:
    """Where limits of this process's group, and of those around it, may stand."""
    try:
        with open(proc, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            folder, name = mount, "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = f"{mount}/memory", "memory.limit_in_bytes"
        else:
            continue
        inner = os.path.normpath(f"/{path}").strip("/")
        while inner:
            yield f"{folder}/{inner}/{name}"
            inner = os.path.dirname(inner)
        yield f"{folder}/{name}"


def least(workers: int) -> int:
    """The limit that so many workers need at least, in bytes."""
    return _SERVER + workers * (_WORKER + _LEAST_ROOM)


def workers_within(limit: int) -> int:
    """How many workers a limit has room for, one at least."""
    return max(1, (limit - _SERVER) // (_WORKER + _LEAST_ROOM))


def _room(limit: int, workers: int) -> int:
    """What a limit leaves to each worker for its clients."""
    return max(_LEAST_ROOM, (limit - _SERVER) // workers - _WORKER)


def buffer_total(limit: int | None, workers: int) -> int:
    """Bytes that each worker may keep for all its clients together."""
    return _MOST_KEPT if limit is None else min(_MOST_KEPT, _room(limit, workers) // 4 >> 16 << 16)


def buffer_limit(limit: int | None, total: int) -> int:
    """Bytes that may be kept for one connection: where memory is limited no single one gets all."""
    return min(_MOST_KEPT_FOR_ONE, total if limit is None else max(1 << 16, total // 4))


def socket_buffer(limit: int, workers: int) -> int | None:
    """Bytes that the kernel is told to take for a TCP connection's unread, and again for its unsent, data.

    None: as it sees fit.
    """
    share = _room(limit, workers) // (2 * 4 * _CONNECTIONS)
    return max(_LEAST_SOCKET_BUFFER, share) if share < _MOST_SOCKET_BUFFER else None


def said(size: int) -> str:
    """Bytes for people: 16 MiB, 1.5 MiB, 64 KiB."""
    return f"{size / MIB:.6g} MiB" if size >= MIB else f"{size / 1024:.6g} KiB"
