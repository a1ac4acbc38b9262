"""Bytes that wait for their time, in order: as cheap to take from as to add to, however many they are."""

from collections import deque

_BLOCK = 64 << 10  # bytes up to which small pieces are joined: each for itself would take many times its size


class Fifo:
    """Bytes in, the same bytes out. A bytearray is copied as a whole now and then once its beginning was deleted."""

    __slots__ = ("_blocks", "_size", "_start")

    def __init__(self) -> None:
        self._blocks: deque[bytearray] = deque()
        self._size = 0
        self._start = 0  # where the first block begins that has not been taken of it

    def __len__(self) -> int:
        return self._size

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Put a copy behind what is there."""
        blocks = self._blocks
        self._size += len(data)
        if blocks and len(blocks[-1]) + len(data) <= _BLOCK:
            blocks[-1] += data
        elif data:
            blocks.append(bytearray(data))

    def take(self, most: int) -> bytes | bytearray:
        """Take what comes first: at most so many bytes, at least one where there are any."""
        if not self._size or most <= 0:
            return b""
        first, start = self._blocks[0], self._start
        if most >= len(first) - start:
            self._blocks.popleft()
            self._start = 0
            taken = first[start:] if start else first
        else:
            taken = first[start : start + most]
            self._start = start + most
        self._size -= len(taken)
        return taken

    def clear(self) -> None:
        """Forget all."""
        self._blocks.clear()
        self._size = self._start = 0
