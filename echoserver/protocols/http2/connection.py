"""HTTP/2 echo: frames in, frames out, all that a read asks for with one write (RFC 9113).

What is answered at once, most requests, never becomes a stream: HEADERS and DATA are looked at where they were read,
and the echo is the client's own DATA frame.
"""

import asyncio
import dataclasses
from time import monotonic
from typing import cast

from echoserver.observe import counters
from echoserver.protocols.http1.site import Site
from echoserver.protocols.http2.control import BURST, DRAIN_PING, Control
from echoserver.protocols.http2.output import BACKLOG_SIZE, PIECES
from echoserver.protocols.http2.site import Http2Site
from echoserver.protocols.http2.stream import Stream
from echoserver.transport.connection import FULL_READ, IDLE_GRACE, TURN_SECONDS
from echoserver.transport.context import Context, client
from echoserver.transport.origin import Origin, ProtocolInfo
from echoserver.transport.readers import Delegate, attach
from echoserver.transport.stream import BACKLOG, LINGER_TIMEOUT, TURN
from echoserver.wire import http2_frames as frames
from echoserver.wire.hpack import HpackError, TooMuchError
from echoserver.wire.http2_frames import Http2Error
from echoserver.wire.http2_reader import GRPC_OK
from echoserver.wire.response import HttpError

_WINDOW = 16 << 10  # octets that come or go before the clock is looked at

_DATA, _HEADERS, _MAX_SIZE = frames.DATA, frames.HEADERS, frames.MAX_SIZE
_BEGINNING, _WHOLE = frames.END_HEADERS, frames.END_HEADERS | frames.END_STREAM
"""Flags of a request's HEADERS, with content to come and without."""
_EMPTY = bytes((_WHOLE,))
"""Those of a response's without content."""
_NOT_THE_LAST = b"\0"
_TRAILERS = frames.begin(frames.HEADERS, _WHOLE, 0, len(GRPC_OK))[:5]

_OK = counters.index("requests", "2xx")
_FULL, _BAD = (counters.index("errors", reason) for reason in ("too_many_connections", "bad_request"))
_HEADER, _KEEP_ALIVE, _IDLE, _PING = (
    counters.index("timeouts", each) for each in ("header", "keep_alive", "idle", "ping")
)


class Http2Connection(Control):
    """One client's streams.

    What of a read is not worked off in this turn of the loop stays in _rest, where the beginning of a frame does too.
    Reading is stopped only for TURN and BACKLOG, never because of what is kept for streams: what the client says next
    may be that it takes more.
    """

    __slots__ = ("_greeted", "_in_bulk", "_large", "_pinged", "_torn_since", "_was_large")

    _greeted: bool
    """The preface has come."""
    _large: int
    """Streams with large content; _was_large: there was one in the last read."""
    _in_bulk: bool
    """A FrameReads reads: from the first of them on, until a read had nothing of such content."""
    _pinged: float
    """The worker's time when the last PING was sent."""
    _torn_since: float
    """When the frame began to come whose beginning is in _rest."""

    def __init__(self, context: Context, origin: Origin, shared: Http2Site) -> None:
        super().__init__(context, origin, shared)
        self._greeted = self._in_bulk = self._was_large = False
        self._large = 0
        self._torn_since = context.now
        self._pinged = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        context = self.context
        if context.log is not None:
            client(self)
        if context.under_pressure:
            attach(self)
        self.send(self._shared.greeting)
        if self.site.public and context.at_capacity():
            context.counts[_FULL] += 1
            self._leave(frames.ENHANCE_YOUR_CALM, "too many connections")
        elif context.rejecting:
            self._leave(frames.NO_ERROR, "the server is shutting down")

    # --- what is read ---

    def data_received(self, data: bytes) -> None:
        self.last_activity = self.context.now
        size = len(data)
        self.received += size
        if self.closing:
            return
        self._work(self._rest + data if self._rest else data)
        if size >= FULL_READ:
            self.yield_turn()

    def _work(self, data: bytes) -> None:
        """Work off the frames that have come, as far as there is time for it, and answer with one write."""
        if self._shared.source is not self.site.prefix:
            self._shared.refresh()
        self._walking, self._interrupted = True, False
        try:
            position = self._walk(data) if self._greeted else self._begin(data)
            if self.heads:
                self._open_waiting()
        except (Http2Error, HpackError, TooMuchError) as error:
            self._fail(error)
            return
        self._walking = False
        if position < len(data) or self._rest_kept:
            self._keep_rest(data[position:], of_another=position > 0)
        else:
            self._rest = b""
        if self._descriptor >= 0:
            return
        if (
            not self._gathered
            and not self._ready
            and not self._leaving
            and not self._client_fin
            and 2 * self._owed < self._shared.window
        ):
            out = self._out
            if out:
                answer = b"".join(out)
                out.clear()
                self.send(answer)
        else:
            self._settle()
        if self._interrupted and not self.stopped & BACKLOG:  # else it goes on when the client has taken more
            self.yield_turn()

    def _keep_rest(self, rest: bytes, *, of_another: bool) -> None:
        """Keep what has not been worked off, and account for it; of_another: it is no longer of the same frame."""
        if of_another or not self._rest_kept:
            self._torn_since = self.context.now
        self._rest = rest
        self.keep(len(rest) - self._rest_kept)
        self._rest_kept = len(rest)

    def _begin(self, data: bytes) -> int:
        """The preface, with the SETTINGS that belong to it, and what follows. Raises Http2Error."""
        size = len(frames.PREFACE)
        if not frames.PREFACE.startswith(data[:size]):
            raise Http2Error(frames.PROTOCOL_ERROR, "a connection must begin with the preface of HTTP/2")
        if len(data) < size + frames.HEADER:
            return 0
        _, _, kind, flags, _ = frames.header(data, size)
        if kind != frames.SETTINGS or flags & frames.ACK:
            raise Http2Error(frames.PROTOCOL_ERROR, "the preface must go on with SETTINGS")
        self._greeted = True
        self._owed_since = 0.0
        if self.context.draining:
            self.drain()
        return self._walk(data, size)

    def _walk(self, data: bytes, position: int = 0) -> int:  # noqa: PLR0912, PLR0915 - a call takes a tenth of what a
        # request does
        """Work off the frames in data, from position on; returns where those end that were.

        Raises Http2Error, HpackError, TooMuchError.
        """
        header, reader, prefix, out = frames.header, self.reader, self._shared.prefix, self._out
        context, table, heads = self.context, self._table, self.heads
        log, most, window = context.log, context.config.max_streams, self._shared.window
        end, answered, over = len(data), 0, 0.0
        until = position + _WINDOW
        try:
            while end - position >= 9:
                high, low, kind, flags, stream = header(data, position)
                begin = position + 9
                after = begin + (high << 8 | low)
                if after > end:
                    if after - begin > _MAX_SIZE:
                        raise frames.too_long()
                    break
                size = -1
                if kind == _HEADERS:
                    if (
                        (flags == _WHOLE or flags == _BEGINNING)  # noqa: PLR1714, SIM109 - faster
                        and self._last < stream <= frames.MAX_STREAM
                        and stream & 1
                        and self._block is None
                    ):
                        ends = flags == _WHOLE
                        block = data[begin:after]
                        known = (table.whole if ends else table.heads).get(block)
                        if known is None:
                            if len(block) > _MAX_SIZE:
                                raise frames.too_long()
                            known = reader.read(block, table, ends=ends)
                            until = position
                        head, self._table = known
                        table = self._table
                        self._last = stream
                        if head.start and len(heads) + len(self.streams) < most and not self._leaving:
                            if not ends and head.may_wait:
                                heads[stream] = head
                                position = after
                                continue
                            size = len(head.text) if head.echo else 0
                            if head.is_call:
                                size = -1
                            elif size <= self.window and size <= self._initial:
                                named = data[position + 5 : begin]
                                if size:
                                    out += head.start, named, prefix, head.block, head.echo, named, head.text
                                else:
                                    out += head.start[:4], _EMPTY, named, prefix, head.block
                            else:
                                size = -1
                        if size < 0:
                            self._open(stream, head, ends=ends)
                    else:
                        self._take(kind, flags, stream & frames.MAX_STREAM, data[begin:after], b"")
                        table = self._table
                elif kind == _DATA and flags == frames.END_STREAM and stream in heads and self._block is None:
                    head = heads[stream]
                    size = after - begin
                    if (
                        size > _MAX_SIZE
                        or size > self.window
                        or size > self._initial
                        or self._owed + self._uncredited + size > window
                    ):
                        size = -1
                    elif size == head.length:
                        del heads[stream]
                        out += head.start, data[position + 5 : begin], prefix, head.block, data[position:after]
                        self._owed += size
                    elif head.trailers and size - 5 == int.from_bytes(data[begin + 1 : begin + 5], "big"):
                        # a call of gRPC, with one message
                        del heads[stream]
                        named = data[position + 5 : begin]
                        out += head.start, named, prefix, head.block, data[position : position + 4], _NOT_THE_LAST
                        out += data[position + 5 : after], _TRAILERS, named, head.trailers
                        self._owed += size
                    else:
                        size = -1
                    if size < 0:
                        self._take(kind, flags, stream, data[begin:after], data[position:after])
                else:
                    self._take(kind, flags, stream & frames.MAX_STREAM, data[begin:after], data[position:after])
                    table = self._table
                position = after
                if size >= 0:
                    self.window -= size
                    answered += 1
                    if log is not None:
                        self._log(head.text, 200, size if kind == _DATA else 0, size, 0.0)
                    until -= size
                    if position < until:
                        continue
                    until = position + _WINDOW
                over = self._look_at_the_clock(over)
                if over < 0:
                    break
        finally:
            if answered:
                context.counts[_OK] += answered
                self._tokens = min(BURST, self._tokens + answered)
        return position

    def _look_at_the_clock(self, over: float) -> float:
        """When the turn is over, which may have just begun (0); -1 where it is, or the client does not take more."""
        if self._gathered >= BACKLOG_SIZE or len(self._out) > PIECES:
            self._flush()
        now = monotonic()
        if not over:
            return now + TURN_SECONDS
        if now >= over or self.stopped or self.closing:
            self._interrupted = True
            return -1.0
        return over

    def take_turn(self) -> None:
        self.go_on_reading(TURN)
        if self.closing or self.transport.is_closing() or self.stopped & BACKLOG:
            return
        if self._interrupted:
            self.last_activity = self.context.now
            rest, self._rest = self._rest, b""
            self._work(rest)
        else:
            self._settle()

    def _fail(self, error: Http2Error | HpackError | TooMuchError) -> None:
        """A connection error (RFC 9113 section 5.4.1)."""
        self._walking = False
        self.context.counts[_BAD] += 1
        if isinstance(error, Http2Error):
            self._leave(error.code, error.reason)
        elif isinstance(error, HpackError):
            self._leave(frames.COMPRESSION_ERROR, str(error))
        else:
            self._leave(frames.ENHANCE_YOUR_CALM, "a header section is many times as long as it may be")

    # --- large content: read into the worker's buffer, and written from there ---

    def expect_much(self, stream: Stream) -> None:
        """A stream has large content."""
        stream.is_large = True
        self._large += 1
        self._was_large = True
        if not self._in_bulk and not self.context.under_pressure:
            self._in_bulk = True
            self.transport.set_protocol(FrameReads(self))

    def expect_no_more(self) -> None:
        """One of those with large content has ended: the next request may have such content too."""
        self._large -= 1

    def room_behind_rest(self) -> memoryview:
        """Where to read to: behind the frame that has begun to come."""
        buffer, rest = self.context.buffer, self._rest
        if not rest:
            return buffer
        buffer[: len(rest)] = rest
        return buffer[len(rest) :]

    def take_read(self, nbytes: int, descriptor: int) -> None:
        """So many bytes have been read there."""
        self.last_activity = self.context.now
        self.received += nbytes
        rest, self._rest = self._rest, b""
        self._was_large = self._large > 0
        if not self.closing:
            self._shared.refresh()
            self.take_view(self.context.buffer[: len(rest) + nbytes], descriptor)
        if not self._was_large and not self.transport.is_closing():  # nothing of such content was read
            attach(self)
            self._in_bulk = False

    def take_view(self, view: memoryview, descriptor: int) -> None:  # noqa: PLR0912 - as _walk()
        """What was read into a buffer that will be read into again: content goes back from where it is.

        All that is answered goes with one write, but for what takes long.
        """
        header, start, position, end, over = frames.header, 0, 0, len(view), 0.0
        shared, out = self._shared, self._out
        self._walking, self._descriptor = True, descriptor
        while end - position >= 9 and not self.closing:
            high, low, kind, flags, number = header(view, position)
            size = high << 8 | low
            after = position + 9 + size
            if after > end:
                if size <= frames.MAX_SIZE:
                    break
                after = end  # it is refused
            elif kind == _DATA and flags <= frames.END_STREAM and self._block is None and self.unsent < BACKLOG_SIZE:
                stream = self._find(number)
                if stream is not None and (room := stream.room()):
                    room = min(room, self.window, shared.window - self._owed - self._uncredited)
                    count, size, behind, ends = _run(view, position, number, room, stream.left)
                else:
                    count = 0
                if stream is not None and count:
                    if not stream.status:
                        if start < position:
                            out.append(view[start:position])
                        start = position
                    self.window -= size
                    self._owed += size
                    position = behind
                    stream.pass_on(count, size, ends=ends)
                    if 2 * stream.owed >= shared.stream_window:
                        out += view[start:position], frames.window_update(number, stream.owed)
                        start = position
                        stream.owed = 0
                    continue
            if start < position:
                out.append(view[start:position])
            self._work(bytes(view[position:after]))
            self._walking = True
            start = position = after
            over = self._look_at_the_clock(over)
            if over < 0:
                break
        if start < position:
            out.append(view[start:position])
        if not self.closing:
            if position < end or self._rest_kept:
                self._keep_rest(bytes(view[position:]), of_another=position > 0)
            self._settle()
        self._walking, self._descriptor = False, -1
        if self._interrupted and not self.closing and not self.stopped & BACKLOG:
            self.yield_turn()

    # --- how it ends ---

    def eof_received(self) -> bool:
        self._client_fin = True
        if not self.closing:
            if self._interrupted:  # what came before is answered first
                return True
            self._drop_hopeless()
        if self.closing or not self.streams:
            self.lingers = False
            return self.close_when_sent()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_streams()
        self._out.clear()
        super().connection_lost(exc)
        self._rest, self._block, self._interrupted = b"", None, False

    def shed(self) -> None:
        super().shed()
        attach(self)
        self._in_bulk = False

    # --- once a sweep, and in a drain ---

    def sweep(self, now: float) -> None:
        config, counts = self.context.config, self.context.counts
        if self.write_queue is not None:
            if self.is_stalled(now, config.idle_timeout):
                counts[_IDLE] += 1
                self.abort()
        elif self.closing:
            if self.has_lingered(now):
                self.transport.close()
        elif self._is_header_overdue(now):
            counts[_HEADER] += 1
            self._leave(frames.NO_ERROR if not self._greeted else frames.PROTOCOL_ERROR, "header timeout")
        elif self._draining and not self._leaving and now - self._draining >= IDLE_GRACE:
            self.close_gracefully()
        elif self._pinged > self.last_activity:
            if now - self._pinged >= config.http2_ping:
                counts[_PING] += 1
                self.abort()
        elif self.idle():
            self._sweep_idle(now, now - self.last_activity)
        else:
            self._sweep_streams(now, config.idle_timeout)
            if self._client_fin:
                self._settle()
            self._ping(now)

    def _sweep_idle(self, now: float, quiet: float) -> None:
        timeout = self.context.config.keep_alive_timeout
        if 0 < timeout <= quiet:
            self.context.counts[_KEEP_ALIVE] += 1
            self._leave(frames.NO_ERROR)
        elif self.context.closing_idle and quiet >= IDLE_GRACE:
            self._leave(frames.NO_ERROR)
        else:
            self._ping(now)

    def _is_header_overdue(self, now: float) -> bool:
        """Whether the client has owed the rest of the preface, of a block, or of a frame where no stream is open."""
        since = self._owed_since
        if not since and self._rest and not (self._interrupted or self.streams):
            since = self._torn_since
        return since > 0 and 0 < self.context.config.header_timeout <= now - since

    def _ping(self, now: float) -> None:
        if 0 < self.context.config.http2_ping <= now - self.last_activity and not self.closing:
            self._pinged = now
            self.put(frames.frame(frames.PING, 0, 0, bytes(8)))

    def _sweep_streams(self, now: float, timeout: float) -> None:
        for stream in list(self.streams.values()):
            if stream.lingers:
                if now - stream.last_activity >= LINGER_TIMEOUT:
                    stream.end_lingering()
            elif stream.taker.is_waited_for():
                stream.last_activity = now
            elif 0 < timeout <= now - stream.last_activity:
                self.context.counts[_IDLE] += 1
                stream.refuse(HttpError(408, f"no content came for {timeout:g} s (--idle-timeout)"))

    def idle(self) -> bool:
        """No stream is open."""
        return not self.streams and self.write_queue is None and not self._rest and self._block is None

    def drain(self) -> None:
        """Say that no more streams are taken, in two steps: the client may have opened some already."""
        if self._greeted and not self._leaving and not self.closing:
            self._draining = self.context.loop.time()
            for stream in list(self.streams.values()):
                stream.taker.drain()
            self.put(frames.goaway(frames.MAX_STREAM, frames.NO_ERROR))
            self.put(frames.frame(frames.PING, 0, 0, DRAIN_PING))


def _run(view: memoryview, position: int, number: int, room: int, left: int) -> tuple[int, int, int, bool]:
    """Frames of DATA of a stream that follow each other from a position on, and may go back as they are.

    room: octets of content at most. left: those that its request still has, -1: any. Returns how many frames, how many
    octets of content, where they end, and whether the last one is the stream's.
    """
    header, end, count, total = frames.header, len(view), 0, 0
    while end - position >= 9:
        high, low, kind, flags, of = header(view, position)
        size = high << 8 | low
        after = position + 9 + size
        if after > end or kind != _DATA or flags > frames.END_STREAM or of != number or not 0 < size <= _MAX_SIZE:
            break
        size += total
        if size > room or (left >= 0 and (size > left or (flags and size != left))):
            break
        count, total, position = count + 1, size, after
        if flags:
            return count, total, position, True
    return count, total, position, False


class FrameReads(Delegate[Http2Connection]):
    """Takes the place of a connection as its transport's protocol while there is much content: that is not copied."""

    __slots__ = ("_descriptor",)

    def __init__(self, connection: Http2Connection) -> None:
        super().__init__(connection)
        self._descriptor = connection.transport.get_extra_info("socket").fileno()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._connection.room_behind_rest()

    def buffer_updated(self, nbytes: int) -> None:
        connection = self._connection
        size = len(connection.context.buffer)
        connection.take_read(nbytes, self._descriptor)
        if nbytes >= size - frames.MAX_SIZE - frames.HEADER or self._full_reads:
            self.take_share(nbytes, nbytes)


_H2, _H2C = ProtocolInfo("h2"), ProtocolInfo("h2c")


def begin(site: Site, origin: Origin) -> Http2Connection:
    """A connection of HTTP/2 of a site's, over TLS or not."""
    if site.http2 is None:
        site.http2 = Http2Site(site)
    origin = dataclasses.replace(origin, kind=_H2C if origin.tls is None else _H2)
    return Http2Connection(site.context, origin, cast(Http2Site, site.http2))
