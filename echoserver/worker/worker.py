"""One process, one event loop: opens the listeners, ticks the clock, sweeps the overdue, drains."""

import asyncio
import bisect
import contextlib
import dataclasses
import errno
import functools
import gc
import importlib.util
import logging
import math
import os
import signal
import socket
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from echoserver.answers import page as browser
from echoserver.answers.controls import Caps
from echoserver.config import options as config
from echoserver.observe import counters, metrics
from echoserver.observe.access_log import AccessLog, client_of
from echoserver.observe.logs import log
from echoserver.protocols.http1.connection import HttpConnection
from echoserver.protocols.http1.echo import Admin, HttpEcho, HttpsEcho
from echoserver.protocols.tcp.echo import TcpEcho, TlsEcho
from echoserver.protocols.udp import UdpEcho
from echoserver.sockets import listeners
from echoserver.transport.buffers import KEPT, BufferPool
from echoserver.transport.connection import FAIR_SHARE, LITTLE, Connection
from echoserver.transport.layer import Echo, Next, Stage
from echoserver.wire import response
from echoserver.wire.request import BROWSER_PAGE, PAGES, Reader, Request

if TYPE_CHECKING:
    import ssl

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
"""What is blocked until there is somebody to handle it."""

_READ = 256 << 10  # bytes read at a time by a relay
_ORPHAN = 10.0  # seconds that a worker without a supervisor has to end where there is no drain timeout
_REFUSALS = config.RESERVE // 2
_ACCEPTED = 16  # connections in a turn of the loop
_MALLOC_THRESHOLD = 260 << 10
_SCRAPES, _SCRAPES_SHARE = 0.1, 0.25  # seconds of CPU that pages of metrics may take at once, and of each second
_LOG_INTERVAL = 0.1  # seconds from one batch of the access log to the next
_LOG_PATIENCE = 1.0  # seconds that its reader has at the end
_COMPARISONS = 1000  # a second, of up to 15 us each: they pay where the next requests are alike, else they are lost

DRAINED = "drained: all connections have ended"
"""The last line of a server that has cut nothing."""

READY, LEAVING, RETIRE, DRAIN, END = b"R", b"L", b"T", b"D", b"E"
"""What a worker and its supervisor tell each other."""

Upgrade = Callable[[HttpConnection, Request], Connection]

_ECHOES: dict[str, Echo] = {
    "http": HttpEcho, "https": HttpsEcho, "tcp": TcpEcho, "tls": TlsEcho, "admin": Admin,
}  # fmt: skip
_LINES_WRITTEN, _LINES_DROPPED = (counters.index("access_log_lines", each) for each in ("written", "dropped"))
_UDP_RECEIVED, _UDP_SENT = (counters.index(f"{each}_bytes", "udp") for each in ("received", "sent"))
_ECHOED, _NOT_ANSWERED = (counters.index("datagrams", each) for each in ("echoed", "not_answered"))
_LAG = counters.index("event_loop_lag", str(counters.LAG_BOUNDS[0]))
_LAG_SUM = counters.index("event_loop_lag_microseconds")
_TEXT, _HTML = b"text/plain; charset=utf-8", b"text/html; charset=utf-8"
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


def websocket_upgrade(settings: config.Config) -> "Upgrade | None":
    """What makes a WebSocket's connection of an HTTP one, where `websockets` is installed (the extra `websocket`).

    To be called before forking too: what it imports takes 4 MB, and some 50 ms.
    """
    if not (settings.http or settings.https) or importlib.util.find_spec("websockets") is None:
        return None
    from echoserver.protocols.websocket.connection import upgrade  # noqa: PLC0415 - it imports websockets

    return upgrade


class Worker:
    """What the connections of a process share, and the process's life.

    now is the loop's time in seconds at the last sweep, time that since the epoch, prefix the beginning of a 200
    response as of then, comparisons how many requests may still be compared with the one before until the next sweep.
    owed counts the bytes kept for all connections; from owed_limit on the worker is crowded. counts is what has been
    counted (counters.index). draining: nothing new is taken; refuses: those that come all the same are told so;
    hurried: connections that are idle are closed. upgrade: what makes a WebSocket's connection of an HTTP one.
    """

    __slots__ = (
        "_browser_page", "_common", "_cors", "_exit_code", "_held", "_interval", "_lines_before", "_metrics_page",
        "_next_tick", "_quiet", "_refused_at", "_refusing", "_row", "_scrape_credit", "_scraped_at", "_served_by",
        "_servers", "_stop_by", "_subject_readers", "_tick_due", "_udp", "_whole_buffer", "admin_reader", "buffer",
        "comparisons", "config", "connections", "counting", "counts", "crowded", "draining", "hurried", "kubernetes",
        "log", "loop", "max_connections", "now", "number", "on_uvloop", "owed", "owed_limit", "pool", "prefix",
        "reader", "refusals", "refuses", "stopping", "time", "upgrade",
    )  # fmt: skip

    def __init__(
        self, settings: config.Config, loop: asyncio.AbstractEventLoop, number: int = 0, common: Common | None = None,
        row: int | None = None,
    ) -> None:  # fmt: skip
        """number: which worker it is. row: the one of common.board that it counts in; None: the first that is free."""
        self.config = settings
        self.loop = loop
        self.number = number
        self._common = common or Common(counters.Board(number + 1))
        row = self._common.board.take(number) if row is None else row
        if row is None:
            raise ValueError("no row is free")
        self._row = row
        self._metrics_page, self._scrape_credit, self._scraped_at = b"", 0.0, 0.0
        self.counts = self._common.board.begin(self._row)
        self.counting = self._common.exposition is not None
        self.connections: set[Connection | Stage] = set()
        self.max_connections = config.connection_limit(settings)
        self.refusals = _REFUSALS
        pages = frozenset() if settings.admin else PAGES
        caps = Caps(
            settings.max_delay or math.inf, settings.max_size or sys.maxsize, settings.controls_prefix.encode()
        )  # fmt: skip
        self.reader = Reader(
            settings.max_body, pages=pages | {BROWSER_PAGE} if settings.controls else pages,
            cors=settings.cors is not None, caps=caps if settings.controls else None,
        )  # fmt: skip
        self._browser_page = browser.page(settings.controls_prefix)
        self.kubernetes = {
            name.removesuffix("_NAME").removeprefix("POD_").lower(): os.environ[name]
            for name in ("POD_NAME", "POD_NAMESPACE", "NODE_NAME") if name in os.environ
        }  # fmt: skip
        self.admin_reader = Reader(settings.max_body, echoes=False)
        self._subject_readers: weakref.WeakValueDictionary[bytes, Reader] = weakref.WeakValueDictionary()
        self.upgrade = websocket_upgrade(settings)
        self.pool = BufferPool(min(KEPT, settings.buffer_total // 8))  # comes on top of what is owed
        self.buffer = self._whole_buffer = self.pool.take(_READ)
        self.owed = 0
        # what is under way when it is reached, and malloc's share, come on top
        self.owed_limit = settings.buffer_total // 2
        self.crowded = self.stopping = self.draining = self.refuses = self.hurried = False
        deadlines = (settings.header_timeout, settings.keep_alive_timeout, settings.idle_timeout, settings.ws_ping)
        self._interval = max(0.05, min([1.0, *(each / 4 for each in deadlines if each)]))
        self._servers: list[asyncio.AbstractServer] = []
        self._held: list[tuple[socket.socket, Callable[[], Connection | Stage], bool]] = []
        self._udp: list[tuple[socket.socket, UdpEcho]] = []
        self.on_uvloop = type(loop).__module__.startswith("uvloop")
        self._refusing: asyncio.Task[None] | None = None
        self._refused_at = -math.inf
        self._quiet = False
        self._next_tick: asyncio.TimerHandle | None = None
        self._tick_due = math.inf
        self._stop_by = 0.0
        self._exit_code = 0
        self._served_by = f"{_host_name()}:{number}".encode() if settings.served_by else b""
        self._cors = response.cross_origin(settings.cors) if settings.cors else b""
        self.log: AccessLog | None = None
        if settings.access_log != "off":
            if sys.stdout is None:
                raise OSError(errno.EBADF, "--access-log: standard output is closed")
            self.log = AccessLog(settings.access_log, number, sys.stdout.fileno())
        self._lines_before = self.counts[_LINES_WRITTEN], self.counts[_LINES_DROPPED]
        self._read_clock()

    # --- what the connections ask for ---

    def start(self, status: int, *, cors: bool = True) -> bytes:
        """The beginning of a response with a status; cors: which pages of other origins may read, if any may."""
        return response.prefix(self.time, status, self._served_by, self._cors if cors else b"")

    def reader_for(self, certificate: dict[str, Any]) -> Reader:
        """What reads for a client with a certificate: its subject goes into each echo."""
        from echoserver.layers import tls_context as tls  # noqa: PLC0415 - few want it

        subject = tls.subject(certificate)
        found = self._subject_readers.get(subject)
        if found is None:
            found = self._subject_readers[subject] = self.reader.with_extra(b"X-Client-Subject: %b\r\n" % subject)
        return found

    def page(self, target: bytes) -> tuple[int, bytes, bytes, bytes]:
        """A page of the server's own: status, type, content, more field lines. /readyz: 503 once a drain has begun."""
        if target == b"/metrics":
            exposition = self._common.exposition
            if exposition is None:
                return (
                    501,
                    _TEXT,
                    b"501 Not Implemented: metrics are not installed: expected pip install 'echoserver[metrics]'\n",
                    b"",
                )
            return 200, metrics.CONTENT_TYPE, self._metrics(exposition), b""
        if target == b"/readyz":
            return (503, _TEXT, b"draining\n", b"") if self.stopping else (200, _TEXT, b"ready\n", b"")
        if target == BROWSER_PAGE:
            return 200, _HTML, self._browser_page, browser.FIELDS
        return 200, _TEXT, b"ok\n", b""

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

    def log_request(  # noqa: PLR0917 - a call by keyword takes longer
        self, connection: Connection, head: bytes, status: int, received: int, sent: int, began: float
    ) -> None:
        """A line for the access log, where there is one; began: the loop's time, 0 for now."""
        if self.log is None:
            return
        now = self.loop.time()
        began = began or now
        when = self.time + (began - self.now)
        client, name = self._client(connection), connection.PROTOCOL.name
        self.log.request(client, name, head, status, received, sent, when, now - began)

    def log_connection(self, connection: Connection, received: int, sent: int, began: float, status: int) -> None:
        """The same for a connection that has ended."""
        if self.log is None:
            return
        when, duration = self.time + (began - self.now), self.loop.time() - began
        client, name = self._client(connection), connection.PROTOCOL.name
        self.log.connection(client, name, status, received, sent, when, duration)

    @staticmethod
    def _client(connection: Connection) -> tuple[str, int]:
        if connection.peer is None:
            connection.peer = client_of(connection.transport)
        return connection.peer

    def log_refused(self, transport: asyncio.BaseTransport, peer: tuple[str, int] | None, why: str) -> None:
        """A connection came to nothing: seen with --log-level debug, for anybody can cause it."""
        if log.isEnabledFor(logging.DEBUG):
            host, port = peer or client_of(transport)
            log.debug("%s: %s", config.Address(host, port) if port else host, why)

    def crowd(self) -> None:
        """owed_limit is reached: from now on read little at a time, and nothing from those for whom much is kept."""
        self.crowded = True
        self.buffer = self._whole_buffer[:LITTLE]
        self.pool.clear()
        for each in self.connections:
            each.crowd()

    def uncrowd(self, size: int) -> None:
        """So many bytes are not kept any more."""
        self.owed -= size
        if self.crowded and self.owed < self.owed_limit:
            self.crowded = False
            self.buffer = self._whole_buffer

    @property
    def share(self) -> int:
        """Bytes that may be kept for one connection now."""
        return FAIR_SHARE if self.crowded else self.config.buffer_limit

    def is_full(self) -> bool:
        """Whether the newest connection is one too many; said in the log at most once a minute."""
        if len(self.connections) <= self.max_connections:
            return False
        if self.now - self._refused_at >= 60:
            self._refused_at = self.now
            log.warning(
                "%d connections are open: new ones are refused (--max-connections, or the descriptor limit)",
                self.max_connections,
            )
        return True

    # --- its life ---

    async def listen(self, given: list[listeners.Listener]) -> None:
        """Serve on sockets that listen."""
        for each in given:
            if each.endpoint.protocol == "udp":
                echo = UdpEcho(each.socket, self._whole_buffer)
                self._udp.append((each.socket, echo))
                self.loop.add_reader(each.socket, echo.readable)
                continue
            factory = self._factory(each.endpoint.protocol)
            self._held.append((each.socket.dup(), factory, each.own))
            create: Any = self.loop.create_server
            if each.endpoint.family == socket.AF_UNIX:
                create = self.loop.create_unix_server
                if sys.version_info >= (3, 13):  # its file is for the supervisor to remove, or not ours at all
                    create = functools.partial(create, cleanup_socket=False)
            if self.on_uvloop:
                self._servers.append(await create(factory, sock=each.socket, backlog=self.config.backlog))
            else:  # asyncio (CPython 3.11 to 3.13) accepts as many in a turn as the backlog that it is told of
                self._servers.append(await create(factory, sock=each.socket, backlog=_ACCEPTED))
                each.socket.listen(self.config.backlog)

    def _factory(self, protocol: str) -> Callable[[], Connection | Stage]:
        """What makes the protocol of a new connection: a PROXY preamble, TLS and an echo, as far as they are wanted."""
        echo = self._echo(protocol)
        made: Next = echo
        if protocol in self._common.contexts:
            made = self._over_tls(protocol, echo)
        if self.config.proxy_protocol and protocol != "admin":
            from echoserver.layers.proxy import Preamble  # noqa: PLC0415 - few want it

            made = functools.partial(Preamble, following=made)
        return functools.partial(made, self)

    def _echo(self, protocol: str) -> Echo:
        if protocol not in {"tcp", "tls"} or not config.tcp_faults(self.config):
            return _ECHOES[protocol]
        from echoserver.protocols.tcp.modes import MODES  # noqa: PLC0415 - few want it

        return MODES[self.config.tcp_mode, protocol]

    def _over_tls(self, protocol: str, following: Echo) -> Next:
        from echoserver.layers.tls import Tls  # noqa: PLC0415 - few want it

        return lambda worker: Tls(worker, following, self._common.contexts[protocol])

    def _read_clock(self) -> None:
        self.now = self.loop.time()
        self.time = time.time()
        self.prefix = self.start(200)
        self.comparisons = 0 if self.stopping else int(_COMPARISONS * self.interval)

    def tick(self) -> None:
        """Once a sweep: the time, the Date, and all connections that are overdue."""
        if self._next_tick is not None:
            self._next_tick.cancel()
        self._next_tick = self.loop.call_later(self.interval, self.tick)
        self._read_clock()
        if self.now >= self._tick_due:
            lag = self.now - self._tick_due
            self.counts[_LAG + bisect.bisect_left(counters.LAG_BOUNDS, lag)] += 1
            self.counts[_LAG_SUM] += int(lag * 1e6)
        self._tick_due = self.now + self.interval
        for connection in list(self.connections):
            connection.sweep(self.now)
        self._publish()
        self.pool.sweep()
        if self._refusing is not None and self._refusing.done():
            if not self.connections and self._quiet:
                self.loop.stop()  # on asyncio an accepted connection is not among ours before the next turn
            self._quiet = not self.connections
            if self._stop_by and self.now >= self._stop_by:
                self._cut_all()

    def _publish(self) -> None:
        """Bring the counters up to now, for whichever worker is asked."""
        if self.counting:
            for connection in self.connections:
                connection.settle()
        counts = self.counts
        for _, echo in self._udp:
            counts[_UDP_RECEIVED] += echo.received
            counts[_UDP_SENT] += echo.sent
            counts[_ECHOED] += echo.echoed
            counts[_NOT_ANSWERED] += echo.ignored
            echo.received = echo.sent = echo.echoed = echo.ignored = 0
        if self.log is not None:
            counts[_LINES_WRITTEN] = self._lines_before[0] + self.log.written
            counts[_LINES_DROPPED] = self._lines_before[1] + self.log.dropped
        self._common.board.write(self._row, counts)

    def _flush_log(self) -> None:
        if self.log is not None:
            self.loop.call_later(_LOG_INTERVAL, self._flush_log)
            self.log.flush()

    @property
    def interval(self) -> float:
        """Seconds from one sweep to the next."""
        return 0.05 if self.hurried else self._interval

    def stop(self, delay: float, timeout: float, *, alone: bool = False) -> None:
        """Begin to drain: not ready from now on, nothing new accepted after delay seconds. May be called again.

        timeout: then cut what is still under way after so many seconds, 0 for never. alone: the server goes on, and who
        waits to be accepted is left to the worker that comes.
        """
        if not self.stopping:
            self.stopping = True
            self.comparisons = 0
            for reader in self._readers():
                reader.unready = True
            for connection in self.connections:
                connection.unready()
            self.loop.call_later(delay, self._drain, timeout, alone)

    def _readers(self) -> Iterator[Reader]:
        yield from (self.reader, self.admin_reader, *self._subject_readers.values())

    def retire(self) -> None:
        """Another process has taken over: accept nothing, and serve those who are here for as long as they stay."""
        if not self.draining:
            self._take_nothing(alone=True)

    def _drain(self, timeout: float, alone: bool) -> None:
        self.hurried = True
        if self.draining:  # retired before
            self.loop.call_soon(self.tick)
        else:
            self._take_nothing(alone)
        self._stop_by = self.now + timeout if timeout else 0.0

    def _take_nothing(self, alone: bool) -> None:
        self.draining = True
        # at sockets that are kept for the next server nobody comes too late: who is accepted in this turn is served
        self.refuses = not alone and any(own for _, _, own in self._held)
        for reader in self._readers():
            reader.closing = True
        self._read_clock()
        for connection in self.connections:
            connection.drain()
        if not self.on_uvloop:  # asyncio loses those that it has accepted in a turn if the next one closes its server
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
                    for _ in range(self.config.backlog):
                        waiting.append((factory, listener.accept()[0]))
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)  # the supervisor has it too, for a moment
            listener.close()
        for factory, accepted in waiting:
            await self.loop.connect_accepted_socket(factory, accepted)

    def _cut_all(self) -> None:
        self._exit_code = 1
        self._stop_by = 0.0
        self.counts[_CUT] += len(self.connections)
        number = len(self.connections)
        log.warning("drain timeout: %d connection%s cut", number, "" if number == 1 else "s")
        for connection in list(self.connections):
            connection.cut()

    def end_at_once(self) -> None:
        """The second signal: no more waiting."""
        self._exit_code = int(not all(connection.idle() for connection in self.connections))
        self.loop.stop()

    def run(self) -> int:
        """Serve until stopped; returns the exit code: 0 after a drain in which nothing was cut.

        Signals are taken from here on: one that comes before its loop runs, uvloop (0.23.0) keeps for the next one.
        """
        self.loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, SIGNALS)
        gc.collect()
        gc.freeze()
        if self.log is not None:
            self._flush_log()
        self.loop.run_forever()
        if self.log is not None:
            self.log.close(_LOG_PATIENCE)
        self._publish()
        return self._exit_code


def _host_name() -> str:
    """This host's name, as far as it may stand in a field."""
    return "".join(each for each in socket.gethostname() if each.isascii() and (each.isalnum() or each in ".-_"))


def _log_exception(worker: Worker, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of the server's own: one line, the connection is closed by the transport."""
    worker.counts[_FAULT] += 1
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
            worker.stop(worker.config.drain_delay, worker.config.drain_timeout)

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
    delay, timeout = worker.config.drain_delay, worker.config.drain_timeout

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
