"""What a connection may ask of its process: one Context for each worker."""

import asyncio
import dataclasses
import logging
import math
import time
from typing import Protocol, cast

from echoserver.config import limits, values
from echoserver.config import options as config
from echoserver.observe import counters
from echoserver.observe.access_log import AccessLog, client_of
from echoserver.observe.logs import log
from echoserver.transport.buffers import KEPT, BufferPool
from echoserver.transport.origin import Origin

SMALL_READ = 16 << 10
"""Bytes read at a time under memory pressure: what can't be sent adds to what it keeps, and answers can be longer."""

FAIR_SHARE = 64 << 10
"""Bytes that are still kept for each connection under memory pressure: many clients send all before they read."""

REFUSALS = limits.RESERVE // 2
"""Connections over --max-connections that are told so, at a time; more are closed without a word."""

_READ = 256 << 10  # bytes read at a time by a relay


class Managed(Protocol):
    """What a worker asks of each of its connections, whatever they speak.

    fin_sent: not None where all has been sent that was to be, and our FIN: nothing is lost by closing it now.
    """

    fin_sent: float | None

    def sweep(self, now: float) -> None:
        """Close what is overdue at a time of the worker's clock."""

    def flush_counters(self) -> None:
        """Add to the worker's counters what they do not have yet."""

    def shed(self) -> None:
        """The worker is under memory pressure: add little to what it keeps."""

    def idle(self) -> bool:
        """Whether nothing is under way that would be lost now."""

    def unready(self) -> None:
        """The server is not ready any more, and goes on for a while."""

    def drain(self) -> None:
        """The worker has begun to drain: take nothing new."""

    def abort(self) -> None:
        """Close at once, and lose what is on its way."""


class Logged(Protocol):
    """What a line of the access log asks of a connection."""

    origin: Origin
    transport: asyncio.Transport


def client(connection: Logged) -> tuple[str, int]:
    """Who a connection's client is, as the access log has it; to be asked early, as client_of() is."""
    origin = connection.origin
    if origin.peer is None:
        origin = connection.origin = dataclasses.replace(origin, peer=client_of(connection.transport))
    return cast(tuple[str, int], origin.peer)


class Context:
    """What the connections of a process share.

    now is the loop's time in seconds at the last sweep, time that since the epoch, interval the seconds from one sweep
    to the next. used counts the bytes kept for all connections; from pressure_limit on it is under_pressure. counts is
    what has been counted (counters.index); counting: somebody may ask for it. draining: nothing new is taken;
    rejecting: those that come all the same are told so; closing_idle: connections that are idle are closed.
    """

    __slots__ = (
        "_interval",
        "_refused_at",
        "_whole_buffer",
        "buffer",
        "closing_idle",
        "config",
        "connections",
        "counting",
        "counts",
        "draining",
        "log",
        "loop",
        "max_connections",
        "now",
        "number",
        "on_uvloop",
        "pool",
        "pressure_limit",
        "refusals",
        "rejecting",
        "time",
        "under_pressure",
        "used",
    )  # fmt: skip

    def __init__(
        self,
        settings: config.Config,
        loop: asyncio.AbstractEventLoop,
        number: int = 0,
        counts: list[int] | None = None,
        *,
        counting: bool = False,
    ) -> None:
        """number: the worker's. counts: None for counters that nobody reads."""
        self.config = settings
        self.loop = loop
        self.number = number
        self.on_uvloop = type(loop).__module__.startswith("uvloop")
        self.counts = [0] * counters.SIZE if counts is None else counts
        self.counting = counting
        self.connections: set[Managed] = set()
        self.max_connections = limits.connection_limit(settings.max_connections)
        self.refusals = REFUSALS
        self._refused_at = -math.inf
        self.pool = BufferPool(min(KEPT, settings.buffer_total // 8))  # comes on top of what is used
        self.buffer = self._whole_buffer = self.pool.take(_READ)
        self.used = 0
        # what is under way when it is reached, and malloc's share, come on top
        self.pressure_limit = settings.buffer_total // 2
        self.under_pressure = self.draining = self.rejecting = self.closing_idle = False
        deadlines = (
            settings.header_timeout,
            settings.keep_alive_timeout,
            settings.idle_timeout,
            settings.ws_ping,
            settings.http2_ping,
        )
        self._interval = max(0.05, min([1.0, *(each / 4 for each in deadlines if each)]))
        self.log: AccessLog | None = None
        self.read_clock()

    def read_clock(self) -> None:
        self.now = self.loop.time()
        self.time = time.time()

    @property
    def interval(self) -> float:
        """Seconds from one sweep to the next."""
        return 0.05 if self.closing_idle else self._interval

    # --- memory ---

    def enter_pressure(self) -> None:
        """pressure_limit is reached: shrink reads, and pause connections for which much is kept."""
        self.under_pressure = True
        self.buffer = self._whole_buffer[:SMALL_READ]
        self.pool.clear()
        for each in self.connections:
            each.shed()

    def give_back(self, size: int) -> None:
        """So many bytes are not kept any more."""
        self.used -= size
        if self.under_pressure and self.used < self.pressure_limit:
            self.under_pressure = False
            self.buffer = self._whole_buffer

    @property
    def share(self) -> int:
        """Bytes that may be kept for one connection now."""
        return FAIR_SHARE if self.under_pressure else self.config.buffer_limit

    # --- admission ---

    def at_capacity(self) -> bool:
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

    # --- the access log ---

    def log_request(  # noqa: PLR0917 - a call by keyword takes longer
        self, connection: Logged, head: bytes, status: int, received: int, sent: int, began: float
    ) -> None:
        """A line for the access log, where there is one; began: the loop's time, 0 for now."""
        if self.log is None:
            return
        now = self.loop.time()
        began = began or now
        when = self.time + (began - self.now)
        who, name = client(connection), connection.origin.kind.name
        self.log.note((who, name, head, status, received, sent, when, now - began))

    def log_connection(self, connection: Logged, received: int, sent: int, began: float, status: int) -> None:
        """The same for a connection that has ended."""
        if self.log is None:
            return
        when, duration = self.time + (began - self.now), self.loop.time() - began
        who, name = client(connection), connection.origin.kind.name
        self.log.note((who, name, None, status, received, sent, when, duration))

    def log_refused(self, transport: asyncio.BaseTransport, peer: tuple[str, int] | None, why: str) -> None:
        """A connection came to nothing: seen with --log-level debug, for anybody can cause it."""
        if log.isEnabledFor(logging.DEBUG):
            host, port = peer or client_of(transport)
            log.debug("%s: %s", values.Address(host, port) if port else host, why)
