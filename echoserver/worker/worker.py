"""One process, one event loop: opens the listeners, ticks the clock, sweeps the overdue, drains."""

import asyncio
import bisect
import contextlib
import dataclasses
import errno
import functools
import gc
import importlib.util
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from echoserver.config import options as config
from echoserver.observe import counters, metrics
from echoserver.observe.access_log import AccessLog
from echoserver.observe.logs import log
from echoserver.protocols.http1 import site as sites
from echoserver.protocols.udp import UdpEcho
from echoserver.sockets import listeners
from echoserver.transport.connection import Connection
from echoserver.transport.context import Context
from echoserver.transport.layer import Stage
from echoserver.worker import entries

if TYPE_CHECKING:
    import ssl

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
"""What is blocked until there is somebody to handle it."""

_ORPHAN = 10.0  # seconds that a worker without a supervisor has to end where there is no drain timeout
_ACCEPTED = 16  # connections in a turn of the loop
_MALLOC_THRESHOLD = 260 << 10
_SCRAPES, _SCRAPES_SHARE = 0.1, 0.25  # seconds of CPU that pages of metrics may take at once, and of each second
_LOG_INTERVAL = 0.1  # seconds from one batch of the access log to the next
_LOG_PATIENCE = 1.0  # seconds that its reader has at the end

DRAINED = "drained: all connections have ended"
"""The last line of a server that has cut nothing."""

READY, LEAVING, RETIRE, DRAIN, END = b"R", b"L", b"T", b"D", b"E"
"""What a worker and its supervisor tell each other."""

_LINES_WRITTEN, _LINES_DROPPED = (counters.index("access_log_lines", each) for each in ("written", "dropped"))
_UDP_RECEIVED, _UDP_SENT = (counters.index(f"{each}_bytes", "udp") for each in ("received", "sent"))
_ECHOED, _NOT_ANSWERED = (counters.index("datagrams", each) for each in ("echoed", "not_answered"))
_LAG = counters.index("event_loop_lag", str(counters.LAG_BOUNDS[0]))
_LAG_SUM = counters.index("event_loop_lag_microseconds")
_CUT, _FAULT = counters.index("timeouts", "drain"), counters.index("errors", "internal")


@dataclasses.dataclass(slots=True)
class Common:
    """What all workers of a server have: their counters, TLS contexts by protocol, and what makes a page of metrics."""

    board: counters.Board
    contexts: "dict[str, ssl.SSLContext]" = dataclasses.field(default_factory=dict)
    exposition: metrics.Exposition | None = None


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """The event loop asked for: auto (uvloop where it is installed), uvloop or asyncio. Raises ImportError."""
    if name == "asyncio" or (name == "auto" and importlib.util.find_spec("uvloop") is None):
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not there on every platform

    return uvloop.new_event_loop()


class Worker:
    """The life of a process: it listens, ticks, drains and ends. Its connections know its context, and HTTP's the site.

    stopping: a drain has been asked for.
    """

    __slots__ = (
        "_common", "_exit_code", "_held", "_lines_before", "_metrics_page", "_next_tick", "_quiet", "_refusing", "_row",
        "_scrape_credit", "_scraped_at", "_servers", "_stop_by", "_tick_due", "_udp", "admin", "context", "loop",
        "site", "stopping",
    )  # fmt: skip

    def __init__(
        self, settings: config.Config, loop: asyncio.AbstractEventLoop, number: int = 0, common: Common | None = None,
        row: int | None = None,
    ) -> None:  # fmt: skip
        """number: which worker it is. row: the one of common.board that it counts in; None: the first that is free."""
        self.loop = loop
        self._common = common or Common(counters.Board(number + 1))
        row = self._common.board.take(number) if row is None else row
        if row is None:
            raise ValueError("no row is free")
        self._row = row
        counts, exposition = self._common.board.begin(row), self._common.exposition
        self.context = context = Context(settings, loop, number, counts, counting=exposition is not None)
        self._metrics_page, self._scrape_credit, self._scraped_at = b"", 0.0, 0.0
        metrics_page = functools.partial(self._metrics, exposition) if exposition is not None else None
        served_by = f"{_host_name()}:{number}".encode() if settings.served_by else b""
        upgrade = entries.websocket_upgrade(settings)
        self.site = sites.public(context, metrics_page=metrics_page, served_by=served_by, upgrade=upgrade)
        self.admin = sites.admin(context, metrics_page=metrics_page, served_by=served_by)
        self.stopping = False
        self._servers: list[asyncio.AbstractServer] = []
        self._held: list[tuple[socket.socket, Callable[[], Connection | Stage], bool]] = []
        self._udp: list[tuple[socket.socket, UdpEcho]] = []
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
            self._metrics_page = exposition.render(self._common.board.read())
            credit -= time.thread_time() - begun
        self._scrape_credit, self._scraped_at = credit, now
        return self._metrics_page

    # --- its life ---

    async def listen(self, given: list[listeners.Listener]) -> None:
        """Serve on sockets that listen."""
        for each in given:
            if each.endpoint.protocol == "udp":
                echo = UdpEcho(each.socket, self.context.buffer)
                self._udp.append((each.socket, echo))
                self.loop.add_reader(each.socket, echo.readable)
                continue
            factory = self.factory(each.endpoint.protocol)
            self._held.append((each.socket.dup(), factory, each.own))
            create: Any = self.loop.create_server
            if each.endpoint.family == socket.AF_UNIX:
                create = self.loop.create_unix_server
                if sys.version_info >= (3, 13):  # its file is for the supervisor to remove, or not ours at all
                    create = functools.partial(create, cleanup_socket=False)
            if self.context.on_uvloop:
                self._servers.append(await create(factory, sock=each.socket, backlog=self.context.config.backlog))
            else:  # asyncio (CPython 3.11 to 3.13) accepts as many in a turn as the backlog that it is told of
                self._servers.append(await create(factory, sock=each.socket, backlog=_ACCEPTED))
                each.socket.listen(self.context.config.backlog)

    def factory(self, protocol: str) -> Callable[[], Connection | Stage]:
        """What makes the protocol of a new connection to a listener."""
        by_protocol = {"http": self.site, "https": self.site, "admin": self.admin}
        return entries.factory(protocol, self.context, by_protocol, self._common.contexts)

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
                connection.settle()
        counts = self.context.counts
        for _, echo in self._udp:
            counts[_UDP_RECEIVED] += echo.received
            counts[_UDP_SENT] += echo.sent
            counts[_ECHOED] += echo.echoed
            counts[_NOT_ANSWERED] += echo.ignored
            echo.received = echo.sent = echo.echoed = echo.ignored = 0
        if self.context.log is not None:
            counts[_LINES_WRITTEN] = self._lines_before[0] + self.context.log.written
            counts[_LINES_DROPPED] = self._lines_before[1] + self.context.log.dropped
        self._common.board.write(self._row, counts)

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
        self.context.hurried = True
        if self.context.draining:  # retired before
            self.loop.call_soon(self.tick)
        else:
            self._take_nothing(alone)
        self._stop_by = self.context.now + timeout if timeout else 0.0

    def _take_nothing(self, alone: bool) -> None:
        self.context.draining = True
        # at sockets that are kept for the next server nobody comes too late: who is accepted in this turn is served
        self.context.refuses = not alone and any(own for _, _, own in self._held)
        self.site.close()
        self.admin.close()
        self._read_clock()
        for connection in self.context.connections:
            connection.drain()
        if not self.context.on_uvloop:  # asyncio loses those it has accepted in a turn if the next closes its server
            for server in self._servers:
                for each in server.sockets:  # type: ignore[attr-defined]  # typeshed: only of its subclass
                    self.loop.remove_reader(each.fileno())
        self.loop.call_soon(self._close_listeners, alone)

    def _close_listeners(self, alone: bool) -> None:
        for server in self._servers:
            server.close()
        self._publish()
        for bound, _ in self._udp:
            self.loop.remove_reader(bound)
            bound.close()
        self._udp.clear()
        self._refusing = self.loop.create_task(self._refuse_waiting(alone))
        self.loop.call_soon(self.tick)

    async def _refuse_waiting(self, alone: bool) -> None:
        """Answer those that the kernel has accepted and we have not: closing the socket would reset them.

        Who waits at a socket that others have too waits for them, or for the next server.
        """
        waiting = []
        for listener, factory, own in self._held:
            if own and not alone:
                with contextlib.suppress(OSError):
                    for _ in range(self.context.config.backlog):
                        waiting.append((factory, listener.accept()[0]))
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)  # the supervisor has it too, for a moment
            listener.close()
        for factory, accepted in waiting:
            await self.loop.connect_accepted_socket(factory, accepted)

    def _cut_all(self) -> None:
        self._exit_code = 1
        self._stop_by = 0.0
        self.context.counts[_CUT] += len(self.context.connections)
        number = len(self.context.connections)
        log.warning("drain timeout: %d connection%s cut", number, "" if number == 1 else "s")
        for connection in list(self.context.connections):
            connection.cut()

    def end_at_once(self) -> None:
        """The second signal: no more waiting."""
        self._exit_code = int(not all(connection.idle() for connection in self.context.connections))
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


def _log_exception(worker: Worker, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of the server's own: one line, the connection is closed by the transport."""
    worker.context.counts[_FAULT] += 1
    error = context.get("exception")
    where = ""
    if error is not None and error.__traceback__ is not None:
        last = error.__traceback__
        while last.tb_next:
            last = last.tb_next
        where = f" ({os.path.basename(last.tb_frame.f_code.co_filename)}:{last.tb_lineno})"
    log.error("%s: %r%s", context.get("message", "error"), error, where)


def tune_malloc() -> None:
    """Let glibc keep blocks of the size that is read at a time; it would map what is over 128 KiB anew each time.

    It raises that threshold to the size of the largest mapped block ever freed (mallopt(3), M_MMAP_THRESHOLD).
    """
    bytearray(_MALLOC_THRESHOLD).clear()


def open_worker(
    settings: config.Config, reservation: listeners.Reservation, common: Common, number: int = 0, row: int | None = None
) -> Worker:
    """A worker in this process that serves on its sockets. Raises ImportError, OSError."""
    tune_malloc()
    if settings.cpu_affinity:
        os.sched_setaffinity(0, {cpus(number + 1)[number]})
    loop = new_event_loop(settings.loop)
    asyncio.set_event_loop(loop)
    worker = Worker(settings, loop, number, common, row)
    loop.set_exception_handler(functools.partial(_log_exception, worker))
    loop.run_until_complete(worker.listen(reservation.of_worker(number)))
    loop.call_soon(worker.tick)
    return worker


def cpus(workers: int) -> list[int]:
    """The CPU that --cpu-affinity binds each worker to: one after the other of those that the server may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[number % len(allowed)] for number in range(workers)]


def serve_alone(worker: Worker, reload: Callable[[], None], stopping: Callable[[], None]) -> int:
    """Run the only worker, in the main process: signals are its own.

    reload is what SIGHUP does; stopping is called when a drain begins.
    """

    at_once = False

    def on_signal() -> None:
        nonlocal at_once
        if worker.stopping:
            at_once = True
            worker.end_at_once()
        else:
            log.info("draining")
            stopping()
            worker.stop(worker.context.config.drain_delay, worker.context.config.drain_timeout)

    for number in (signal.SIGTERM, signal.SIGINT):
        worker.loop.add_signal_handler(number, on_signal)
    worker.loop.add_signal_handler(signal.SIGHUP, reload)
    if os.getpid() == 1:  # orphans come to us
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them from now on
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    code = worker.run()
    if not code and not at_once:
        log.info(DRAINED)
    return code


def serve_for(supervisor: socket.socket, worker: Worker) -> int:
    """Run one of several workers: it says READY, is told RETIRE, DRAIN or END, and ends when the supervisor is gone.

    It says LEAVING when it accepts nothing any more: it was told to retire, or somebody else has told it to end
    (SIGTERM), and then another one is started at once.
    """
    delay, timeout = worker.context.config.drain_delay, worker.context.config.drain_timeout

    def say_leaving() -> None:
        with contextlib.suppress(OSError):  # the supervisor has gone, which will be heard next
            supervisor.send(LEAVING)

    def told() -> None:
        try:
            what = supervisor.recv(16)
        except ConnectionResetError:  # it has gone without having read READY
            what = b""
        if END in what:
            worker.end_at_once()
        elif DRAIN in what:
            worker.stop(delay, timeout)
        elif RETIRE in what:
            worker.retire()
            worker.loop.call_soon(say_leaving)  # by then its listeners are closed
        else:
            worker.loop.remove_reader(supervisor)
            worker.stop(0.0, timeout or _ORPHAN)

    def leave() -> None:
        say_leaving()
        worker.stop(delay, timeout, alone=True)

    worker.loop.add_reader(supervisor, told)
    worker.loop.add_signal_handler(signal.SIGTERM, leave)
    supervisor.send(READY)
    return worker.run()
