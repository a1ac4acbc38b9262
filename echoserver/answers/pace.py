"""How fast bytes may go: a rate, kept by small pieces."""

_LONGEST, _SHORTEST = 0.05, 0.005  # seconds from one piece to the next, where a piece is more than a byte
_PIECE = 64 << 10  # bytes of a piece, where these allow it
_LATE = 0.1  # seconds: who comes later for a piece loses what would have gone before
_ROUNDING = 1e-6  # bytes: what the times of a byte lose as floats
TICK = 0.001
"""Seconds that timers are exact to: libuv's (uvloop 0.23.0) count milliseconds."""


class Pace:
    """Bytes at a rate (bytes a second, more than 0): n bytes take n / rate seconds or longer.

    That holds from the beginning to any later time, and from any begin() but for a millisecond. What is late is made up
    for, up to a piece and 0.1 s, so that in the long run the rate is kept as long as the caller comes in time. Times
    are seconds of any clock.
    """

    __slots__ = ("_from", "_most", "_piece", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._piece = max(1.0, min(rate * _LONGEST, _PIECE), rate * _SHORTEST)
        self._most = self._piece / rate + _LATE
        self._from = now  # since when nothing would have gone

    def begin(self, now: float) -> None:
        """There is something to send again, after a time without: that counts as a millisecond, no longer.

        So what a fast link would take less than that for does not wait for a timer.
        """
        self._from = max(self._from, now - TICK)

    def allowed(self, now: float) -> int:
        """Bytes that may go now."""
        self._from = max(self._from, now - self._most)
        return max(0, int((now - self._from) * self._rate + _ROUNDING))

    def spent(self, size: int) -> None:
        """So many bytes have gone; more than were allowed are made up for before the next ones."""
        self._from += size / self._rate

    def next(self, now: float, size: int) -> float:
        """Seconds until the next piece of size bytes (at least 1) that wait may go; 0.0: it may now."""
        wait = self._from + min(self._piece, size) / self._rate - now
        return max(wait, TICK) if wait > 0 else 0.0
