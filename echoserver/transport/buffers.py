"""Large buffers that are used again: memory that has been faulted in once costs nothing the next time."""

import contextlib
import mmap

KEPT = 32 << 20
"""Bytes at most that are kept for the next time."""

_IDLE_SWEEPS = 10


class BufferPool:
    """Buffers of at least the size asked for, whose memory is only taken as they are written to.

    most: bytes that are kept for the next time.
    """

    __slots__ = ("_free", "_kept", "_most", "_unused")

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._free: dict[int, list[memoryview]] = {}
        self._kept = 0
        self._unused = 0

    def take(self, size: int) -> memoryview:
        """A buffer of size bytes or more. Raises OSError where the system has no room for it."""
        self._unused = 0
        rounded = 1 << (size - 1).bit_length()
        free = self._free.get(rounded)
        if free:
            self._kept -= rounded
            return free.pop()
        made = mmap.mmap(-1, rounded, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            # where they are for everybody, the first byte of what a client claims to send would take 2 MiB
            made.madvise(mmap.MADV_NOHUGEPAGE)
        return memoryview(made)

    def give(self, buffer: memoryview) -> None:
        """Give back a buffer that nobody reads or writes any more."""
        size = len(buffer)
        if self._kept + size <= self._most:
            self._kept += size
            self._free.setdefault(size, []).append(buffer)

    def sweep(self) -> None:
        """Called once a sweep: what has not been asked for in a while goes back to the system."""
        self._unused += 1
        if self._kept and self._unused >= _IDLE_SWEEPS:
            self.clear()

    def clear(self) -> None:
        """Give back to the system what is kept for the next time."""
        self._free.clear()
        self._kept = 0
