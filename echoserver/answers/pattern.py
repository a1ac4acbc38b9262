"""The bytes of the character generator (RFC 864): lines of 72 printing ASCII characters, each one character further."""

_RING = bytes(range(0x20, 0x7F)) * 2
_LINE = 72

PATTERN = b"".join(_RING[first : first + _LINE] + b"\r\n" for first in range(len(_RING) // 2))
"""One period: 95 lines of 74 bytes."""


def pattern(size: int, offset: int = 0) -> bytes:
    """size bytes of the endless pattern, from offset on; no more than these are built."""
    period = len(PATTERN)
    start = offset % period
    if start + size <= period:
        return PATTERN[start : start + size]
    whole, rest = divmod(size - (period - start), period)
    view = memoryview(PATTERN)
    return b"".join((view[start:], *([PATTERN] * whole), view[:rest]))
