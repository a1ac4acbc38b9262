"""One process, one event loop: opens the listeners, ticks the clock, sweeps the overdue, drains."""

import asyncio
import contextlib
import functools
import gc
import importlib.util
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from echoserver import config, listeners
from echoserver.buffers import BufferPool
from echoserver.connection import LITTLE, Connection
from echoserver.messages import request, response
from echoserver.messages.request import Known, Request
from echoserver.protocols.http import HttpEcho
from echoserver.protocols.tcp import TcpEcho
from echoserver.protocols.udp import UdpEcho

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
"""What is blocked until there is somebody to handle it."""

log = logging.getLogger("echoserver")

_READ = 256 << 10  # bytes read at a time by a relay
_ORPHAN = 10.0  # seconds that a worker without a supervisor has to end where there is no drain timeout
_REFUSALS = config.RESERVE // 2
_MALLOC_THRESHOLD = 260 << 10
_REQUESTS = 256  # header sections that are remembered
_COMPARISONS = 1000  # a second, of up to 15 us each: they pay where the next requests are alike, else they are lost

READY, DRAIN, END = b"R", b"D", b"E"
"""What a worker and its supervisor tell each other."""


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """The event loop asked for: auto (uvloop where it is installed), uvloop or asyncio. Raises ImportError."""
    if name == "asyncio" or (name == "auto" and importlib.util.find_spec("uvloop") is None):
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not there on every platform

    return uvloop.new_event_loop()


class Worker:
    """What the connections of a process share, and the process's life.

    now is the loop's time in seconds at the last sweep, prefix the beginning of a 200 response as of then, comparisons
    how many requests may still be compared with the one before until the next. owed counts the bytes kept for all
    connections; from owed_limit on the worker is crowded.
    """

    __slots__ = (
        "_exit_code", "_held", "_interval", "_next_tick", "_quiet", "_refused_at", "_refusing", "_servers", "_stop_by",
        "_udp", "_whole_buffer", "buffer", "comparisons", "config", "connections", "crowded", "draining", "known",
        "loop", "max_connections", "now", "on_uvloop", "owed", "owed_limit", "pool", "prefix", "refusals", "requests",
        "stopping", "time",
    )  # fmt: skip

    def __init__(self, settings: config.Config, loop: asyncio.AbstractEventLoop) -> None:
        self.config = settings
        self.loop = loop
        self.connections: set[Connection] = set()
        self.max_connections = config.connection_limit(settings)
        self.refusals = _REFUSALS
        self.known: Known = {}
        self.requests: dict[bytes, Request] = {}
        self.pool = BufferPool()
        self.buffer = self._whole_buffer = self.pool.take(_READ)
        self.owed = 0
        self.owed_limit = (
            settings.buffer_total // 2
        )  # what is under way when it is reached, and malloc's share, come on top
        self.crowded = self.stopping = self.draining = False
        deadlines = (settings.header_timeout, settings.keep_alive_timeout, settings.idle_timeout)
        self._interval = max(0.05, min([1.0, *(each / 4 for each in deadlines if each)]))
        self._servers: list[asyncio.AbstractServer] = []
        self._held: list[tuple[socket.socket, Callable[[], Connection]]] = []
        self._udp: list[socket.socket] = []
        self.on_uvloop = type(loop).__module__.startswith("uvloop")
        self._refusing: asyncio.Task[None] | None = None
        self._refused_at = -math.inf
        self._quiet = False
        self._next_tick: asyncio.TimerHandle | None = None
        self._stop_by = 0.0
        self._exit_code = 0
        self._read_clock()

    # --- what the connections ask for ---

    def read(self, head: bytes) -> Request:
        """Read a header section. Raises Refusal."""
        return request.read(head, self.known, max_body=self.config.max_body, closing=self.draining)

    def read_first(self, head: bytes) -> Request:
        """The same for a connection's first request, which is often that of other connections too."""
        if self.draining:
            return self.read(head)
        found = self.requests.get(head)
        if found is None:
            found = self.read(head)
            if len(head) <= request.REMEMBERED_SIZE:
                if len(self.requests) >= _REQUESTS:
                    self.requests.clear()
                self.requests[head] = found
        return found

    def health(self, readiness: bool) -> tuple[int, str]:
        """Status and text of /healthz, and of /readyz: 503 from the moment a drain begins."""
        if readiness and self.stopping:
            return 503, "draining"
        return 200, "ready" if readiness else "ok"

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

    def is_full(self) -> bool:
        """Whether the newest connection is one too many; said in the log at most once a minute."""
        if len(self.connections) <= self.max_connections:
            return False
        if self.now - self._refused_at >= 60:
            self._refused_at = self.now
            log.warning("%d connections: more are refused (--max-connections, descriptors)", self.max_connections)
        return True

    # --- its life ---

    async def listen(self, endpoints: list[listeners.Endpoint], sockets: list[socket.socket]) -> None:
        """Serve on bound sockets."""
        protocols = {"http": HttpEcho, "tcp": TcpEcho}
        for endpoint, bound in zip(endpoints, sockets, strict=True):
            if endpoint.protocol == "udp":
                self._udp.append(bound)
                self.loop.add_reader(bound, UdpEcho(bound, self._whole_buffer).readable)
                continue
            listeners.listen(endpoint, bound, self.config.backlog)
            factory = functools.partial(protocols[endpoint.protocol], self)
            self._held.append((bound.dup(), factory))
            create: Any = self.loop.create_unix_server if endpoint.family == socket.AF_UNIX else self.loop.create_server
            self._servers.append(await create(factory, sock=bound, backlog=self.config.backlog))

    def _read_clock(self) -> None:
        self.now = self.loop.time()
        self.time = time.time()
        self.prefix = response.prefix(self.time)
        self.comparisons = int(_COMPARISONS * self.interval)

    def tick(self) -> None:
        """Once a sweep: the time, the Date, and all connections that are overdue."""
        if self._next_tick is not None:
            self._next_tick.cancel()
        self._next_tick = self.loop.call_later(self.interval, self.tick)
        self._read_clock()
        for connection in list(self.connections):
            connection.sweep(self.now)
        self.pool.sweep()
        if self._refusing is not None and self._refusing.done():
            if not self.connections and self._quiet:
                self.loop.stop()  # on asyncio an accepted connection is not among ours before the next turn
            self._quiet = not self.connections
            if self._stop_by and self.now >= self._stop_by:
                self._cut_all()

    @property
    def interval(self) -> float:
        """Seconds from one sweep to the next."""
        return 0.05 if self.draining else self._interval

    def stop(self, delay: float, timeout: float, *, alone: bool = False) -> None:
        """Begin to drain: not ready from now on, nothing new accepted after delay seconds. May be called again.

        timeout: then cut what is still under way after so many seconds, 0 for never. alone: the other workers go on.
        """
        if not self.stopping:
            self.stopping = True
            self.loop.call_later(delay, self._drain, timeout, alone)

    def _drain(self, timeout: float, alone: bool) -> None:
        self.draining = True
        self._read_clock()
        self._stop_by = self.now + timeout if timeout else 0.0
        for connection in self.connections:
            connection.drain()
        self.loop.call_soon(self._close_listeners, alone)  # asyncio loses those that it has just accepted

    def _close_listeners(self, alone: bool) -> None:
        for server in self._servers:
            server.close()
        for bound in self._udp:
            self.loop.remove_reader(bound)
            bound.close()
        self._refusing = self.loop.create_task(self._refuse_waiting(alone))
        self.loop.call_soon(self.tick)

    async def _refuse_waiting(self, alone: bool) -> None:
        """Answer those that the kernel has accepted and we have not: closing the socket would reset them.

        Who waits at a unix socket waits for the other workers too: they are left to those, where we drain alone.
        """
        waiting = []
        for listener, factory in self._held:
            if not (alone and listener.family == socket.AF_UNIX):
                with contextlib.suppress(OSError):
                    for _ in range(self.config.backlog):
                        waiting.append((factory, listener.accept()[0]))
            listener.close()
        for factory, accepted in waiting:
            await self.loop.connect_accepted_socket(factory, accepted)

    def _cut_all(self) -> None:
        self._exit_code = 1
        self._stop_by = 0.0
        log.warning("drain timeout: %d connections cut", len(self.connections))
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
        self.loop.run_forever()
        return self._exit_code


def _log_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of the server's own: one line, the connection is closed by the transport."""
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


def open_worker(settings: config.Config, endpoints: list[listeners.Endpoint], sockets: list[socket.socket]) -> Worker:
    """A worker in this process that listens on the sockets. Raises ImportError, OSError."""
    tune_malloc()
    loop = new_event_loop(settings.loop)
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(_log_exception)
    worker = Worker(settings, loop)
    loop.run_until_complete(worker.listen(endpoints, sockets))
    loop.call_soon(worker.tick)
    return worker


def serve_alone(worker: Worker) -> int:
    """Run the only worker, in the main process: signals are its own."""

    def on_signal() -> None:
        if worker.stopping:
            worker.end_at_once()
        else:
            log.info("draining")
            worker.stop(worker.config.drain_delay, worker.config.drain_timeout)

    for number in (signal.SIGTERM, signal.SIGINT):
        worker.loop.add_signal_handler(number, on_signal)
    if os.getpid() == 1:  # orphans come to us
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them from now on
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    return worker.run()


def serve_for(supervisor: socket.socket, worker: Worker) -> int:
    """Run one of several workers: it says READY, is told DRAIN or END, and ends when the supervisor is gone."""
    delay, timeout = worker.config.drain_delay, worker.config.drain_timeout

    def told() -> None:
        try:
            what = supervisor.recv(16)
        except ConnectionResetError:  # it has gone without having read READY
            what = b""
        if END in what:
            worker.end_at_once()
        elif DRAIN in what:
            worker.stop(delay, timeout)
        else:
            worker.loop.remove_reader(supervisor)
            worker.stop(0.0, timeout or _ORPHAN)

    worker.loop.add_reader(supervisor, told)
    worker.loop.add_signal_handler(signal.SIGTERM, functools.partial(worker.stop, delay, timeout, alone=True))
    supervisor.send(READY)
    return worker.run()
