"""TCP in one direction only: discard (RFC 863) reads and drops, chargen (RFC 864) sends without end."""

from time import monotonic

from echoserver.answers.pattern import PATTERN
from echoserver.protocols.tcp.faults import Faulty, FaultyEcho
from echoserver.transport.connection import Connection
from echoserver.transport.context import SMALL_READ, Context
from echoserver.transport.origin import Origin
from echoserver.transport.stream import BACKLOG, PACE

_MOST = 36 * len(PATTERN)  # bytes given to the kernel at a time, a quarter of a MiB: they end where the pattern begins
_PATTERN = memoryview(PATTERN * 37)  # as many, from anywhere in the pattern on
_ALL = 1 << 60  # as much as may come


class Discard(Faulty):
    """What comes is dropped: --tcp-rate and --tcp-close-after are about what is read.

    At a rate a byte is read at once, and made up for: uvloop (0.23.0) reads after connection_made(), whatever was said
    there.
    """

    __slots__ = ()

    def room(self) -> memoryview:
        buffer = self.context.buffer
        if self._over or (self._pace is None and self._left >= len(buffer)):
            return buffer
        allowed = self._left if self._pace is None else min(self._left, self._pace.allowed(monotonic()))
        return buffer[: max(1, allowed)]

    def arrived(self, data: memoryview | bytes) -> None:
        if self._over:
            return
        self.last_activity = self.context.now
        self._left -= len(data)
        if self._left <= 0 or self.resets_at_once():
            self.conclude()
        elif self._pace is not None:
            self._pace.spent(len(data))
            wait = self._pace.next(monotonic(), _ALL)
            if wait:
                self._wait(wait)

    def _wait(self, wait: float) -> None:
        if not (self._fin or self._over):
            self.stop_reading(PACE)
            self.later(wait)

    def proceed(self) -> None:
        self.go_on_reading(PACE)

    def on_all_sent(self) -> None:
        """The kernel has taken all of what TLS itself had to say; the pace goes on as before."""
        Connection.on_all_sent(self)


class Chargen(Faulty):
    """Sends the pattern, a block at a time when the kernel has taken the one before; what comes is dropped.

    The client's FIN changes nothing, for only a client that closes "terminates the connection" (RFC 864): one that has
    nothing to say may half-close at once. Its kernel answers a block after its close with a reset.
    """

    __slots__ = ("_offset", "_start")

    ENDLESS = True
    _offset: int
    """Where the pattern goes on."""
    _start: float
    """When the first byte may go (monotonic())."""

    def __init__(self, context: Context, origin: Origin) -> None:
        super().__init__(context, origin)
        self._offset = 0
        self._start = monotonic() + context.config.tcp_delay

    def begin(self) -> None:
        super().begin()
        if self._pace is not None:
            self._pace.begin(self._start)
        self.proceed()

    def arrived(self, data: memoryview | bytes) -> None:
        """Nothing is made of it: a client that only sends is idle."""

    def owes(self) -> bool:
        return True

    def proceed(self) -> None:
        if self._over or self.write_queue is not None:
            return
        now = monotonic()
        if now < self._start:
            self.later(self._start - now)
            return
        if self.resets_at_once():
            self.conclude()
            return
        size = min(self._left, SMALL_READ if self.context.under_pressure else _MOST)
        if self._pace is not None:
            size = min(size, self._pace.allowed(now))
            self._pace.spent(size)
        if size:
            self.last_activity = self.context.now
            start = self._offset
            self._offset = (start + size) % len(PATTERN)
            self._left -= size
            self.send(_PATTERN[start : start + size])
        if not self._left:
            self.conclude()
        elif self.write_queue is None:
            self.later(self._pace.next(now, self._left) if self._pace is not None else 0.0)

    # --- the pattern that waits is memory only where it is encrypted, or copied: uvloop (0.23.0) keeps a view of it ---

    def _is_shared(self) -> bool:
        return self.origin.tls is None and self.context.on_uvloop

    def account_unsent(self, size: int) -> None:
        if self._is_shared():
            self.unsent += size
        else:
            super().account_unsent(size)

    def account_sent(self) -> None:
        if self._is_shared():
            self.unsent = 0
        else:
            super().account_sent()

    def pause(self) -> None:
        """What the client sends is dropped, whatever waits for it; but TLS may have answers to it, which wait too.

        At the end nothing is read, as with others.
        """
        if self._over or not self._is_shared():
            super().pause()

    def on_all_sent(self) -> None:
        self.go_on_reading(BACKLOG)
        super().on_all_sent()

    def shed(self) -> None:
        """The next blocks are small."""


MODES = {"echo": FaultyEcho, "discard": Discard, "chargen": Chargen}
"""What serves a raw listener, by --tcp-mode; a plain echo has a class of its own."""
