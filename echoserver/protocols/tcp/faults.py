"""TCP echo late (--tcp-delay), slowly (--tcp-rate), cut off (--tcp-close-after) or reset (--tcp-reset)."""

import asyncio
import random
import sys
from time import monotonic

from echoserver.answers.pace import TICK, Pace
from echoserver.observe import counters
from echoserver.observe.access_log import NO_ANSWER
from echoserver.protocols.tcp.raw import RawConnection
from echoserver.transport.connection import IDLE_GRACE
from echoserver.transport.context import FAIR_SHARE, Context
from echoserver.transport.origin import Origin
from echoserver.transport.readers import Delegate
from echoserver.transport.stream import BACKLOG
from echoserver.wire.fifo import Fifo

_IDLE = counters.index("timeouts", "idle")
_PAUSES = counters.index("backpressure_pauses")
_MARK = 128  # bytes of memory that a mark takes, rounded up
_PIECE = 256 << 10  # bytes given to the kernel at a time


class Faulty(RawConnection):
    """The common part of what is not a plain echo: not usable by itself.

    Times are monotonic(), and not the loop's, which uvloop (0.23.0) reads once a turn and rounds down: a delay must not
    be too short. At most one timer runs, and while it does the connection waits for itself, not for its client.
    """

    __slots__ = ("_fin", "_left", "_over", "_pace", "_resets", "_timer", "_written")

    ENDLESS = False
    """It is never quiet: a drain ends it."""
    _fin: bool
    """The client's FIN has been read."""
    _left: int
    """Bytes until it is closed."""
    _over: bool
    """Nothing more is sent, and what still comes is dropped."""
    _pace: Pace | None
    _resets: bool
    """It ends by a reset where --tcp-close-after would close it, or else in place of its first byte."""
    _timer: asyncio.Handle | None
    _written: int
    """Bytes written that are among the worker's counters."""

    def __init__(self, context: Context, origin: Origin) -> None:
        super().__init__(context, origin)
        self._fin = self._over = self._resets = False
        self._pace = self._timer = None
        self._written = 0
        self._left = context.config.tcp_close_after or sys.maxsize

    def begin(self) -> None:
        config = self.context.config
        if config.tcp_reset:
            self._resets = random.random() * 100 < config.tcp_reset  # noqa: S311 - nothing secret
        if config.tcp_rate:
            self._pace = Pace(config.tcp_rate, monotonic())
        self.transport.set_protocol(_Reader(self))

    # --- what the modes say ---

    def room(self) -> memoryview:
        """What to read into."""
        return self.context.buffer

    def arrived(self, data: memoryview | bytes) -> None:
        """What has been read; data is good only during the call."""
        raise NotImplementedError

    def proceed(self) -> None:
        """Send, or read, what there is to be: it may be time, or the kernel has taken what was sent before."""
        raise NotImplementedError

    def owes(self) -> bool:
        """Whether there is something to be sent after the client's FIN."""
        return False

    # --- for them ---

    def take(self, data: memoryview | bytes) -> None:
        self.received += len(data)
        self.arrived(data)

    def resets_at_once(self) -> bool:
        """Whether it is to be reset in place of its first byte."""
        return self._resets and not self.context.config.tcp_close_after

    def later(self, wait: float) -> None:
        """Proceed after so many seconds; 0.0: when the others have had their turn."""
        loop = self.context.loop
        self._timer = loop.call_later(max(wait, TICK), self._now) if wait else loop.call_soon(self._now)

    def _now(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.proceed()

    def conclude(self) -> None:
        """That was all: end after what is on its way, and read nothing until that is sent."""
        self._over = True
        self.lingers = not self._fin
        self._stop_timer()
        if self.close_when_sent():
            self.pause()
        else:
            self.go_on_reading(BACKLOG)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- how it ends ---

    def close(self) -> None:
        """Close, at once by a reset, or in stages, so that no reset destroys what was sent before."""
        if self._over and self._resets:
            self._status = NO_ANSWER
            self.reset()
        else:
            super().close()

    def eof_received(self) -> bool:
        self._fin = True
        self.lingers = False
        return (not self._over and self.owes()) or self.close_when_sent()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    # --- reading, and not ---

    def pause(self) -> None:
        """Stop reading until what waits, also for its time, has become little."""
        if not (self.stopped & BACKLOG or self._fin):
            if self.write_queue is not None:
                self.context.counts[_PAUSES] += 1
            self.stop_reading(BACKLOG)

    def on_all_sent(self) -> None:
        if self.closing:
            super().on_all_sent()
        else:  # not within resume_writing(), for that may be its end; see there
            self._stop_timer()
            self.later(0.0)

    # --- once a sweep ---

    def flush_counters(self) -> None:
        self._written += self.sent
        super().flush_counters()

    def written(self) -> int:
        return self._written

    def sweep(self, now: float) -> None:
        context = self.context
        if self.fin_sent is not None:
            if self.has_lingered(now):
                self.transport.close()
            return
        if self.write_queue is None and self._timer is not None:
            self.last_activity = now
        if self.is_stalled(now, context.config.idle_timeout):
            context.counts[_IDLE] += 1
            self.abort()
        elif not context.closing_idle or self.closing:
            return
        elif self.ENDLESS:
            self._resets = False
            self.conclude()
        elif self.write_queue is None and now - self.last_activity >= IDLE_GRACE:
            self.close_when_sent()


class _Reader(Delegate[Faulty]):
    """Takes the place of a connection as its transport's protocol."""

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._connection.room()

    def buffer_updated(self, nbytes: int) -> None:
        connection = self._connection
        buffer = connection.context.buffer
        connection.take(buffer[:nbytes])
        self.take_share(nbytes, len(buffer))


class FaultyEcho(Faulty):
    """What comes is queued, and goes when its time has come and the rate and the kernel allow it."""

    __slots__ = ("_marks", "_queue", "_ripe")

    _marks: list[tuple[float, int]]
    """When bytes of the queue may go, and how many, in order; reads within a millisecond share one."""
    _queue: Fifo
    _ripe: int
    """Bytes at the beginning of the queue whose time has come."""

    def __init__(self, context: Context, origin: Origin) -> None:
        super().__init__(context, origin)
        self._marks = []
        self._queue = Fifo()
        self._ripe = 0

    def arrived(self, data: memoryview | bytes) -> None:
        self.last_activity = self.context.now
        room = self._left - len(self._queue)
        data = data[:room] if room < len(data) else data
        if self._over or not data:
            return
        size = len(data)
        self._queue.add(data)
        self.account_buffered(size)
        delay = self.context.config.tcp_delay
        if delay:
            self._mark(int(monotonic() / TICK + 1) * TICK + delay, size)
        else:
            self._ripen(size)
        if self._timer is None:
            self.proceed()
        context = self.context
        kept = self.buffered + self.unsent
        if self.buffered and (kept >= context.share or context.used >= context.config.buffer_total):
            self.pause()

    def _mark(self, due: float, size: int) -> None:
        marks = self._marks
        if marks and marks[-1][0] >= due:
            marks[-1] = marks[-1][0], marks[-1][1] + size
        else:
            marks.append((due, size))
            self.account_buffered(_MARK)

    def _ripen(self, size: int) -> None:
        if self._pace is not None and not self._ripe:
            self._pace.begin(monotonic())
        self._ripe += size

    def proceed(self) -> None:
        if self._over or self.write_queue is not None:
            return
        now = monotonic()
        if self._marks:
            self._ripen_until(now)
        if self._ripe and self.resets_at_once():
            self.conclude()
            return
        self._send(self._ripe if self._pace is None else min(self._ripe, self._pace.allowed(now)))
        if not self._left:
            self.conclude()
            return
        if self.write_queue is None:
            self._wait(now)
        if self.stopped & BACKLOG:
            self._read_on()

    def _ripen_until(self, now: float) -> None:
        marks, count = self._marks, 0
        while count < len(marks) and marks[count][0] <= now:
            self._ripen(marks[count][1])
            count += 1
        del marks[:count]
        self.account_buffered(-_MARK * count)

    def _send(self, size: int) -> None:
        while size and self.write_queue is None and not self.transport.is_closing():
            piece = self._queue.take(min(size, _PIECE))
            size -= len(piece)
            self._ripe -= len(piece)
            self._left -= len(piece)
            if self._pace is not None:
                self._pace.spent(len(piece))
            self.account_buffered(-len(piece))
            self.send(piece)

    def _wait(self, now: float) -> None:
        """The kernel has taken all that might go: wait for the rest, or end."""
        if self._ripe:
            if self._timer is None:
                self.later(self._pace.next(now, self._ripe) if self._pace is not None else 0.0)
        elif self._marks:
            if self._timer is None:
                self.later(max(self._marks[0][0] - now, TICK))
        elif self._fin:
            self.close_when_sent()

    def _read_on(self) -> None:
        """Read again when there is room for half of what may be kept: not a little at a time."""
        context, kept = self.context, self.buffered + self.unsent
        if not kept or (kept <= context.share // 2 and context.used < context.config.buffer_total):
            self.go_on_reading(BACKLOG)

    def owes(self) -> bool:
        return bool(self._queue)

    def conclude(self) -> None:
        self._queue.clear()
        self._marks.clear()
        self._ripe = 0
        self.account_buffered(-self.buffered)
        super().conclude()

    def shed(self) -> None:
        if self.buffered + self.unsent >= FAIR_SHARE:
            self.pause()
