"""What every connection to a raw listener has besides its bytes: a refusal, and a line in the access log."""

import asyncio

from echoserver.observe import counters
from echoserver.transport.connection import IDLE_GRACE, Connection
from echoserver.transport.context import Context, client
from echoserver.transport.origin import Origin

_TOO_MANY = counters.index("errors", "too_many_connections")
_IDLE = counters.index("timeouts", "idle")
_DRAINING = counters.index("errors", "draining")
_OK, _CUT_OFF, _UNAVAILABLE = 200, 499, 503  # as nginx has them (ngx_stream_core_module, $status), and 499 of HTTP


class RawConnection(Connection):
    """The common part of protocols that have no requests: not usable by itself.

    Who is one too many is refused, who is idle is closed, and each connection is a line of the access log. What is left
    to a protocol is listed in docs/architecture.md.
    """

    __slots__ = ("_began", "_status", "_total")

    _began: float
    """The loop's time at the beginning, where there is an access log."""
    _status: int
    """What the access log says of a connection that did not end in an error."""
    _total: int
    """Bytes read that are among the worker's counters."""

    def __init__(self, context: Context, origin: Origin) -> None:
        super().__init__(context, origin)
        self._status = _OK
        self._total = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        context = self.context
        if context.log is not None:
            self._began = context.loop.time()
            client(self)
        if context.at_capacity():
            self._refuse(_TOO_MANY)
        elif context.rejecting:
            self._refuse(_DRAINING)
        else:
            self.begin()

    def begin(self) -> None:
        """It is served."""
        raise NotImplementedError

    def written(self) -> int:
        """All bytes written that are among the worker's counters."""
        raise NotImplementedError

    def _refuse(self, error: int) -> None:
        self.context.counts[error] += 1
        self._status = _UNAVAILABLE
        self.abort()

    def sweep(self, now: float) -> None:
        if self.has_lingered(now):
            self.transport.close()
        elif self.is_stalled(now, self.context.config.idle_timeout):
            self.context.counts[_IDLE] += 1
            self.abort()
        elif self.context.closing_idle and self.write_queue is None and now - self.last_activity >= IDLE_GRACE:
            self.close_when_sent()

    def drain(self) -> None:
        self.last_activity = self.context.now

    def flush_counters(self) -> None:
        self._total += self.received
        super().flush_counters()

    def connection_lost(self, exc: Exception | None) -> None:
        log = self.context.log
        owed = self.unsent
        super().connection_lost(exc)
        if log is not None:
            status = self._status if exc is None else _CUT_OFF
            self.context.log_connection(self, self._total, self.written() - owed, self._began, status)
