"""What every stream connection has: a place among the worker's, a deadline, and a bound on what waits for its client.

The transport's high-water mark is 0: it calls pause_writing() as soon as the kernel did not take all of a write, and
resume_writing() when the kernel has taken the last of it. In between there is a write queue: what else is to be sent is
kept in one buffer here, for a list of small writes in the transport would take many times their size.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from typing import cast

from echoserver.observe import counters
from echoserver.transport.context import FAIR_SHARE, Context
from echoserver.transport.origin import Origin
from echoserver.transport.stream import BACKLOG, TURN, Stream

IDLE_GRACE = 1.0
"""Seconds without a read after which a draining worker takes a connection for idle."""

TURN_SECONDS = 0.0005
"""What a connection may do in one turn of the loop before it goes to the back of the queue."""

FULL_READ = 256_000
"""Bytes that uvloop (0.23.0) reads at a time for a protocol without a buffer of its own, and asyncio a little more.

libuv (1.52) reads again at once, up to 32 times, where a read has filled its buffer.
"""

_PAUSES = counters.index("backpressure_pauses")
_RESET = counters.index("errors", "reset")


class Connection(Stream, asyncio.Protocol):
    """The common part of the stream protocols: not usable by itself."""

    __slots__ = (
        "_in_flight", "buffered", "closing", "last_activity", "lingers", "received", "sent", "unsent", "unsent_before",
        "write_queue",
    )  # fmt: skip

    _in_flight: memoryview | None
    """A buffer of the context's pool that the transport still has to send some of."""
    last_activity: float
    """The worker's time at the last read, or at the last progress of what is being sent."""
    write_queue: bytearray | None
    """What is to be sent after what the transport still has; None: the kernel has taken all."""
    unsent: int
    """Bytes that wait to be sent, in the transport and in the write queue; 0 where the kernel has taken all."""
    buffered: int
    """Bytes of a request's content that have been received and wait for the rest of it."""
    lingers: bool
    """It ends in stages, for the client may send on after what it is sent last."""
    closing: bool
    """Nothing more is sent after what is on its way."""
    unsent_before: int
    """Bytes that were unsent at the last sweep: fewer now is progress."""
    received: int
    """Bytes read that are not among the worker's counters yet."""
    sent: int
    """Bytes written, likewise."""

    def __init__(self, context: Context, origin: Origin) -> None:
        super().__init__(context, origin)
        self.write_queue = self._in_flight = None
        self.unsent = self.buffered = self.unsent_before = self.received = self.sent = 0
        self.closing = self.lingers = False
        self.last_activity = context.now

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        context = self.context
        context.connections.add(self)
        context.counts[self.origin.kind.opened] += 1
        self.transport.set_write_buffer_limits(0)

    def hand_over(self, following: "Connection") -> None:
        """Leave the transport, and what waits to be sent, to another connection; this one has ended."""
        transport = self.transport
        following.write_queue, following.unsent = self.write_queue, self.unsent
        following.stopped = self.stopped & BACKLOG
        self.go_on_reading(~BACKLOG)
        self.unsent = self.stopped = 0
        self.connection_lost(None)
        transport.set_protocol(following)
        following.connection_made(transport)

    def take(self, data: bytes) -> None:
        """What has been read on behalf of this connection before it had the transport."""
        self.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.context.connections.discard(self)
        self.flush_counters()
        self.context.counts[self.origin.kind.closed] += 1
        if isinstance(exc, ConnectionError):  # a broken pipe is a reset that a write met
            self.context.counts[_RESET] += 1
        self.account_sent()
        self.context.give_back(self.buffered)
        self.buffered = 0
        # the pool does not get what is lent: the transport may read it still
        self.write_queue = self._in_flight = None

    def pause_writing(self) -> None:
        self.write_queue = bytearray()
        self.account_unsent(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        if self._in_flight is not None:
            self.context.pool.give(self._in_flight)
            self._in_flight = None
        queue, self.write_queue = self.write_queue, None
        self.account_sent()
        if queue:
            self.sent -= len(queue)  # they were counted when they came
            self.send(memoryview(queue))  # of a bytearray asyncio's transport (CPython 3.11) makes two copies
        if self.write_queue is None:
            self.on_all_sent()

    def eof_received(self) -> bool:
        """The client's FIN: what is owed is still sent, then the connection is closed."""
        return self.close_when_sent()

    # --- what is sent, and what is kept ---

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send in order, now or when what is waiting has gone."""
        self.sent += len(data)
        if self.write_queue is None:
            self.transport.write(data)  # may call pause_writing()
            if self.write_queue is not None:
                self.account_unsent(len(data) - self.unsent)  # as long as some of it waits, all of it is kept
        else:
            self.write_queue += data
            self.account_unsent(len(data))

    def send_pooled(self, buffer: memoryview, start: int, end: int) -> None:
        """Send from start to end of a buffer of the context's pool, which gets it back when all has been taken."""
        queued = self.write_queue is not None
        self.send(buffer[start:end])
        if queued or self.write_queue is None:  # copied, or taken by the kernel
            self.context.pool.give(buffer)
        else:
            self._in_flight = buffer

    def send_list(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """The same for several pieces that are large: not copied where that can be helped."""
        if self.write_queue is None and self.context.on_uvloop:
            self.sent += sum(map(len, parts))
            self.transport.writelines(parts)
        else:  # asyncio's writelines() does not call pause_writing() (seen with CPython 3.13.0)
            self.send(b"".join(parts))

    def account_unsent(self, size: int) -> None:
        """Account for bytes that wait to be sent, and stop reading where they are too many."""
        context = self.context
        self.unsent += size
        context.used += size
        if self.unsent >= context.share or context.used >= context.config.buffer_total:
            self.pause()
        if context.used >= context.pressure_limit and not context.under_pressure:
            context.enter_pressure()

    def account_buffered(self, size: int) -> None:
        """Account for bytes of content that wait for the rest of it; negative: they no longer do."""
        context = self.context
        self.last_activity = context.now
        self.buffered += size
        if size < 0:
            context.give_back(-size)
            return
        context.used += size
        if context.used >= context.pressure_limit and not context.under_pressure:
            context.enter_pressure()

    def account_sent(self) -> None:
        """Nothing waits to be sent any more."""
        self.context.give_back(self.unsent)
        self.unsent = 0

    def shed(self) -> None:
        """The worker keeps as much as it may: add little to it."""
        if self.unsent >= FAIR_SHARE:
            self.pause()

    def pause(self) -> None:
        """Stop reading until all that is waiting has been sent."""
        if self.write_queue is not None and not self.stopped & BACKLOG:
            self.context.counts[_PAUSES] += 1
            self.stop_reading(BACKLOG)

    def on_all_sent(self) -> None:
        """The kernel has taken everything: go on reading, or close where that was to come next."""
        self.go_on_reading(BACKLOG)
        if self.closing:
            # asyncio (CPython 3.11 to 3.13) ends a transport twice that is closed within resume_writing()
            self.context.loop.call_soon(self._end_later)

    def _end_later(self) -> None:
        if self.write_queue is None and not self.transport.is_closing():
            self.close()

    # --- turns ---

    def yield_turn(self) -> None:
        """Let other connections have their turn, and read nothing before this one has its next."""
        if not self.stopped & TURN and self in self.context.connections:  # else somebody else has the transport
            self.stop_reading(TURN)
            self.context.loop.call_soon(self.take_turn)

    def take_turn(self) -> None:
        """Go on after yield_turn()."""
        self.go_on_reading(TURN)

    # --- how it ends ---

    def close_when_sent(self) -> bool:
        """End the connection after what is on its way; where it lingers, in stages.

        As asyncio has it for eof_received(): True where something is still to be sent. False: close() has been called,
        and has closed the transport, or where it lingers sent our FIN. After the client's FIN there is nothing to
        linger for: lingers has to be False before.
        """
        self.closing = True
        if self.write_queue is None:
            self.close()
            return False
        return True

    def close(self) -> None:
        """All is sent: close, or where it lingers in stages (RFC 9112 section 9.6)."""
        if self.transport.is_closing():
            return
        if self.lingers:
            self.send_fin()
        else:
            self.fin_sent = self.context.loop.time()
            self.transport.close()

    def abort(self) -> None:
        """Close at once, and lose what is on its way."""
        self.transport.abort()

    def reset(self) -> None:
        """The same, and have the kernel send a reset (TCP RST), as far as the client's socket has that."""
        with contextlib.suppress(OSError):
            no_time = struct.pack("@ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_time)
        self.transport.abort()

    # --- once a sweep ---

    def flush_counters(self) -> None:
        """Add to the worker's counters what they do not have yet."""
        counts, protocol = self.context.counts, self.origin.kind
        counts[protocol.received] += self.received
        counts[protocol.sent] += self.sent
        self.received = self.sent = 0

    def sweep(self, now: float) -> None:
        """Close what is overdue at a time of the worker's clock."""
        raise NotImplementedError

    def is_stalled(self, now: float, timeout: float) -> bool:
        """Whether nothing has been read, nor anything that waits been sent, for timeout seconds (0: never)."""
        if self.write_queue is not None:
            waiting = self.transport.get_write_buffer_size() + len(self.write_queue)
            if waiting < self.unsent_before:
                self.last_activity = now
            self.unsent_before = waiting
        return 0 < timeout <= now - self.last_activity

    def idle(self) -> bool:
        """Whether nothing is under way that would be lost now."""
        return False

    def unready(self) -> None:
        """The server is not ready any more, and goes on for a while."""

    def drain(self) -> None:
        """The worker has begun to drain: take nothing new."""
        raise NotImplementedError
