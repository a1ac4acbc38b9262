"""The life of a worker: it listens, ticks the clock, sweeps the overdue, drains and ends."""

import asyncio
import bisect
import errno
import functools
import gc
import math
import signal
import socket
import sys
import time

from echoserver.config import options as config
from echoserver.observe import counters, metrics
from echoserver.observe.access_log import AccessLog
from echoserver.observe.logs import log
from echoserver.protocols.http1 import site as sites
from echoserver.sockets import listeners
from echoserver.transport.context import Context
from echoserver.worker import entries
from echoserver.worker.accepting import Accepting, Factory
from echoserver.worker.channel import SIGNALS
from echoserver.worker.shared import Shared

_SCRAPES, _SCRAPES_SHARE = 0.1, 0.25  # seconds of CPU that pages of metrics may take at once, and of each second
_LOG_INTERVAL = 0.1  # seconds from one batch of the access log to the next
_LOG_PATIENCE = 1.0  # seconds that its reader has at the end

_LINES_WRITTEN, _LINES_DROPPED = (counters.index("access_log_lines", each) for each in ("written", "dropped"))
_LAG = counters.index("event_loop_lag", str(counters.LAG_BOUNDS[0]))
_LAG_SUM = counters.index("event_loop_lag_microseconds")
_CUT = counters.index("timeouts", "drain")


class Worker:
    """The life of a process: it listens, ticks, drains and ends. Its connections know its context, and HTTP's the site.

    stopping: a drain has been asked for.
    """

    __slots__ = (
        "_accepting",
        "_exit_code",
        "_lines_before",
        "_metrics_page",
        "_next_tick",
        "_quiet",
        "_refusing",
        "_row",
        "_scrape_credit",
        "_scraped_at",
        "_shared",
        "_stop_by",
        "_tick_due",
        "admin",
        "context",
        "loop",
        "site",
        "stopping",
    )  # fmt: skip

    def __init__(
        self, settings: config.Config, loop: asyncio.AbstractEventLoop, number: int = 0, shared: Shared | None = None,
        row: int | None = None,
    ) -> None:  # fmt: skip
        """number: which worker it is. row: the one of shared.board that it counts in; None: the first that is free."""
        self.loop = loop
        self._shared = shared or Shared(counters.SharedCounters(number + 1))
        row = self._shared.board.take(number) if row is None else row
        if row is None:
            raise ValueError("no row is free")
        self._row = row
        counts, exposition = self._shared.board.begin(row), self._shared.exposition
        self.context = context = Context(settings, loop, number, counts, counting=exposition is not None)
        self._metrics_page, self._scrape_credit, self._scraped_at = b"", 0.0, 0.0
        metrics_page = functools.partial(self._metrics, exposition) if exposition is not None else None
        served_by = f"{_host_name()}:{number}".encode() if settings.served_by else b""
        upgrade, http2 = entries.websocket_upgrade(settings), entries.http2(settings)
        self.site = sites.public(
            context, metrics_page=metrics_page, served_by=served_by, upgrade=upgrade, begin_http2=http2
        )
        self.admin = sites.admin(context, metrics_page=metrics_page, served_by=served_by)
        self.stopping = False
        self._accepting = Accepting(context, self.factory)
        self._refusing: asyncio.Task[None] | None = None
        self._quiet = False
        self._next_tick: asyncio.TimerHandle | None = None
        self._tick_due = math.inf
        self._stop_by = 0.0
        self._exit_code = 0
        if settings.access_log != "off":
            if sys.stdout is None:
                raise OSError(errno.EBADF, "--access-log: standard output is closed")
            context.log = AccessLog(settings.access_log, number, sys.stdout.fileno())
        self._lines_before = counts[_LINES_WRITTEN], counts[_LINES_DROPPED]

    def _metrics(self, exposition: metrics.Exposition) -> bytes:
        """The page of metrics: as things stand, unless it is asked for so often that it would take all the time."""
        now = time.monotonic()
        credit = min(_SCRAPES, self._scrape_credit + (now - self._scraped_at) * _SCRAPES_SHARE)
        if credit > 0:
            begun = time.thread_time()
            self._publish()
            self._metrics_page = exposition.render(self._shared.board.read())
            credit -= time.thread_time() - begun
        self._scrape_credit, self._scraped_at = credit, now
        return self._metrics_page

    # --- its life ---

    async def listen(self, given: list[listeners.Listener]) -> None:
        """Serve on sockets that listen."""
        await self._accepting.listen(given)

    def factory(self, protocol: str) -> Factory:
        """What makes the protocol of a new connection to a listener."""
        by_protocol = {"http": self.site, "https": self.site, "any": self.site, "admin": self.admin}
        return entries.factory(protocol, self.context, by_protocol, self._shared.contexts)

    def _read_clock(self) -> None:
        self.context.read_clock()
        self.site.tick()
        self.admin.tick()

    def tick(self) -> None:
        """Once a sweep: the time, the Date, and all connections that are overdue."""
        if self._next_tick is not None:
            self._next_tick.cancel()
        self._next_tick = self.loop.call_later(self.context.interval, self.tick)
        self._read_clock()
        if self.context.now >= self._tick_due:
            lag = self.context.now - self._tick_due
            self.context.counts[_LAG + bisect.bisect_left(counters.LAG_BOUNDS, lag)] += 1
            self.context.counts[_LAG_SUM] += int(lag * 1e6)
        self._tick_due = self.context.now + self.context.interval
        for connection in list(self.context.connections):
            connection.sweep(self.context.now)
        self._publish()
        self.context.pool.sweep()
        if self._refusing is not None and self._refusing.done():
            if not self.context.connections and self._quiet:
                self.loop.stop()  # on asyncio an accepted connection is not among ours before the next turn
            self._quiet = not self.context.connections
            if self._stop_by and self.context.now >= self._stop_by:
                self._cut_all()

    def _publish(self) -> None:
        """Bring the counters up to now, for whichever worker is asked."""
        if self.context.counting:
            for connection in self.context.connections:
                connection.flush_counters()
        counts = self.context.counts
        self._accepting.flush_counters()
        if self.context.log is not None:
            counts[_LINES_WRITTEN] = self._lines_before[0] + self.context.log.written
            counts[_LINES_DROPPED] = self._lines_before[1] + self.context.log.dropped
        self._shared.board.write(self._row, counts)

    def _flush_log(self) -> None:
        if self.context.log is not None:
            self.loop.call_later(_LOG_INTERVAL, self._flush_log)
            self.context.log.flush()

    def stop(self, delay: float, timeout: float, *, alone: bool = False) -> None:
        """Begin to drain: not ready from now on, nothing new accepted after delay seconds. May be called again.

        timeout: then cut what is still under way after so many seconds, 0 for never. alone: the server goes on, and who
        waits to be accepted is left to the worker that comes.
        """
        if not self.stopping:
            self.stopping = True
            self.site.unready()
            self.admin.unready()
            for connection in self.context.connections:
                connection.unready()
            self.loop.call_later(delay, self._drain, timeout, alone)

    def retire(self) -> None:
        """Another process has taken over: accept nothing, and serve those who are here for as long as they stay."""
        if not self.context.draining:
            self._take_nothing(alone=True)

    def _drain(self, timeout: float, alone: bool) -> None:
        self.context.closing_idle = True
        if self.context.draining:  # retired before
            self.loop.call_soon(self.tick)
        else:
            self._take_nothing(alone)
        self._stop_by = self.context.now + timeout if timeout else 0.0

    def _take_nothing(self, alone: bool) -> None:
        self.context.draining = True
        # at sockets that are kept for the next server nobody comes too late: who is accepted in this turn is served
        self.context.rejecting = not alone and self._accepting.own
        self.site.close()
        self.admin.close()
        self._read_clock()
        for connection in self.context.connections:
            connection.drain()
        self._accepting.pause()
        self.loop.call_soon(self._close_listeners, alone)

    def _close_listeners(self, alone: bool) -> None:
        self._publish()
        self._accepting.close()
        self._refusing = self.loop.create_task(self._accepting.refuse_waiting(alone))
        self.loop.call_soon(self.tick)

    def _cut_all(self) -> None:
        self._stop_by = 0.0
        number = sum(connection.fin_sent is None for connection in self.context.connections)
        if number:
            self._exit_code = 1
            self.context.counts[_CUT] += number
            log.warning("drain timeout: %d connection%s cut", number, "" if number == 1 else "s")
        for connection in list(self.context.connections):
            connection.abort()

    def end_at_once(self) -> None:
        """The second signal: no more waiting."""
        served = all(each.fin_sent is not None or each.idle() for each in self.context.connections)
        self._exit_code = int(not served)
        self.loop.stop()

    def run(self) -> int:
        """Serve until stopped; returns the exit code: 0 after a drain in which nothing was cut.

        Signals are taken from here on: one that comes before its loop runs, uvloop (0.23.0) keeps for the next one.
        """
        self.loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, SIGNALS)
        gc.collect()
        gc.freeze()
        if self.context.log is not None:
            self._flush_log()
        self.loop.run_forever()
        if self.context.log is not None:
            self.context.log.close(_LOG_PATIENCE)
        self._publish()
        return self._exit_code


def _host_name() -> str:
    """This host's name, as far as it may stand in a field."""
    return "".join(each for each in socket.gethostname() if each.isascii() and (each.isalnum() or each in ".-_"))
