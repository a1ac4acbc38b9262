"""WebSocket echo (RFC 6455, RFC 7692): a message comes back as one frame of the same type, compressed if it was.

The core of `websockets` (17.4) negotiates and answers control frames. Frames with data never get there: it takes each
in one go, ten times as long as unmasking it takes, and a message that inflates to 16 MiB would stop all others for
0.1 s. Here they are taken as they come and a step at a time, and what is kept of them is counted.
"""

import asyncio
from time import monotonic

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol

from echoserver.observe import counters
from echoserver.observe.logs import log
from echoserver.transport.connection import FULL_READ, IDLE_GRACE, TURN_SECONDS, Connection
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.transport.readers import attach
from echoserver.transport.stream import BACKLOG, LINGER_TIMEOUT, TURN
from echoserver.wire import frames
from echoserver.wire.deflate import Deflater, Inflater
from echoserver.wire.frames import BINARY, CLOSE, COMPRESSED, FINAL, TEXT, CloseError, SingleFrame

_unmask = frames.apply_mask
_COPIED = 64 << 10  # payload up to so many bytes is cheaper copied into one write than written from where it is
_SLICED = 4096  # bytes that are sliced faster than viewed
_SPARED = 4096  # bytes of a message that are kept even where the worker keeps all that it may
_WINDOW = 4 << 10  # bytes of frames that are answered without a look at the clock
_MOST_DEFLATED = 1 << 20  # bytes of a message that goes back compressed: a MiB takes 40 ms

_SWITCHED = counters.index("requests", "1xx")
_IDLE, _PING = (counters.index("timeouts", each) for each in ("idle", "ping"))
_ERROR = counters.index("errors", "websocket")
_ERRORS = {
    code: counters.index("errors", reason)
    for code, reason in {
        frames.TOO_BIG: "content_too_long", frames.TRY_AGAIN_LATER: "too_much_memory",
        frames.INTERNAL_ERROR: "internal",
    }.items()
}  # fmt: skip
_TEXT = FINAL | TEXT
_WHOLE = frozenset({_TEXT, FINAL | BINARY})
"""First bytes of frames that may be whole messages, neither fragmented nor compressed."""
_SHORT = tuple({first: frames.header(first, length) for first in _WHOLE} for length in range(126))
"""The headers of short frames, by length and first byte."""

Out = list[bytes | bytearray]
"""What is to be sent, in order."""


def _allowance(most: int) -> int:
    """Bytes over --max-message that a compressed message may have: what can't be compressed gets longer (by 1 % with
    the least memLevel of zlib)."""
    return 125 + (most >> 6)


class WebSocketEcho(Connection):
    """One client's messages, answered in order, over TLS or not.

    What of a read is not answered in this turn of the loop stays in _unread, and nothing is read: until other
    connections have had their turn (TURN), or until the client has taken what it is owed (BACKLOG).
    """

    __slots__ = (
        "_answer", "_began", "_core", "_deflater", "_draining", "_echoed", "_final", "_first", "_head", "_inflater",
        "_left", "_mask", "_message", "_most", "_over", "_pending", "_pinged", "_simple",
        "_since", "_tail", "_unread", "_unread_at", "_whole",
    )  # fmt: skip

    _simple: bool
    """The connection is open, and no message is in progress: a frame may be a whole one."""
    _message: bytearray | None
    """What has come of a message in fragments, or a compressed one: unmasked, inflated, checked as text."""
    _first: int
    """The first byte of its first frame."""
    _tail: bytes
    """The beginning of a character, in which the text that has been checked so far ends."""
    _left: int
    """Bytes that are to come of the payload of its frame; 0: between two frames."""
    _mask: bytes
    """That of this frame, as it begins at the next byte of the payload."""
    _final: bool
    """This frame is its last."""
    _inflater: Inflater | None
    """None: permessage-deflate was not negotiated."""
    _deflater: Deflater | None
    _pending: bytes
    """The beginning of a frame: less than its header, or than all of a control frame."""
    _whole: SingleFrame | None
    """What has come of a frame that is a whole message, and not compressed."""
    _unread: bytes
    """What has been read and, from _unread_at on, not been answered."""
    _over: bool
    """What the client still sends is dropped."""
    _since: float | None
    """Since when the client has owed its close, or its FIN; None: it does not."""
    _draining: float
    """Since when a drain has been under way."""
    _pinged: float
    """The worker's time when the last ping was sent."""
    _echoed: int
    """Bytes of messages."""

    def __init__(self, context: Context, origin: Origin, head: bytes, core: ServerProtocol, answer: bytes) -> None:
        super().__init__(context, origin)
        self._core = core
        self._inflater = self._deflater = None
        for extension in core.extensions:
            if isinstance(extension, PerMessageDeflate):
                self._inflater, self._deflater = Inflater(extension), Deflater(extension)
        core.extensions = []
        self._answer = answer
        self._head = head if context.log is not None else b""
        self._began = context.loop.time()
        self._most = context.config.max_message
        self._simple = True
        self._message = self._whole = None
        self._tail = self._unread = self._pending = self._mask = b""
        self._echoed = self._first = self._left = self._unread_at = 0
        self._final = self._over = False
        self._since = None
        self._pinged = self._draining = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.context.under_pressure:
            attach(self)
        self.context.counts[_SWITCHED] += 1
        self.send(self._answer)
        self._answer = b""

    def shed(self) -> None:
        super().shed()
        attach(self)

    # --- what is read ---

    def data_received(self, data: bytes) -> None:
        self.last_activity = self.context.now
        size = len(data)
        self.received += size
        # a short message and nothing else: most are
        if self._simple and 6 <= size < 132 and data[1] == size + 122 and not self._pending:
            first = data[0]
            if first in _WHOLE:
                payload = _unmask(data[6:], data[2:6])
                if first != _TEXT or payload.isascii():
                    self._echoed += size - 6
                    self.send(_SHORT[size - 6][first] + payload)
                    return
        self._take(data)
        if size >= FULL_READ:
            self.yield_turn()

    def _take(self, data: bytes, position: int = 0) -> None:
        """Answer all whole messages in data, with one write where that is not much, and keep the rest."""
        if self._over:
            return
        if self._pending:
            data, position = self._pending + data[position:], 0
            self._pending = b""
        out: Out = []
        try:
            position = self._answer_all(data, position, out)
        except CloseError as error:
            self._flush(out)
            self._fail(error)
            return
        self._flush(out)
        if self._over:
            return
        if position < len(data) or self._is_working():
            self._unread, self._unread_at = (data, position) if position < len(data) else (b"", 0)
            if not self.stopped & BACKLOG:
                self.yield_turn()
        if self.buffered or self._unread or not self._has_nothing():
            self._account()

    def _answer_all(self, data: bytes, position: int, out: Out) -> int:
        """Take frames for a turn; returns how far. Raises CloseError."""
        end, over = len(data), 0.0
        while True:
            if self._deflater is not None and self._deflater.pending:
                self._deflate(self._deflater, out)
            elif self._inflater is not None and self._inflater.pending:
                self._inflate(self._inflater, out)
            elif self._left:
                position = self._take_payload(data, position, out)
            elif self._whole is not None:
                position = self._complete_whole(self._whole, data, position, out)
            else:
                position = self._take_frames(data, position, min(position + _WINDOW, end), out)
            if self._over or (position >= end and not self._is_working()):
                return end
            now = monotonic()
            over = over or now + TURN_SECONDS
            if now >= over or self.stopped:
                return position

    def _is_working(self) -> bool:
        """Whether a message is inflated or deflated."""
        inflater, deflater = self._inflater, self._deflater
        return (inflater is not None and inflater.pending) or (deflater is not None and deflater.pending)

    def _take_frames(self, data: bytes, position: int, until: int, out: Out) -> int:
        """Take whole messages, as many as begin before until, or one frame of any other kind; returns how far."""
        end, most = len(data), self._most
        while position < until:
            if self._simple and end - position > 5:
                first, length, start = data[position], data[position + 1] - frames.MASKED, position + 6
                if length == 126:
                    length, start = data[position + 2] << 8 | data[position + 3], position + 8
                elif length == 127:
                    length, start = int.from_bytes(data[position + 2 : position + 10], "big"), position + 14
                stop = start + length
                # all of a message that is not compressed; without a mask the length is negative
                if first in _WHOLE and start <= stop <= end and length <= most:
                    masked = data[start:stop] if length <= _SLICED else memoryview(data)[start:stop]
                    payload = _unmask(masked, data[start - 4 : start])
                    if first == _TEXT and not payload.isascii():
                        frames.check_text(b"", payload, final=True)
                    self._echoed += length
                    out.append(_SHORT[length][first] if length < 126 else frames.header(first, length))
                    out.append(payload)
                    position = stop
                    if length > _COPIED:
                        self._flush(out)
                    continue
            return self._take_frame(data, position, out)
        return position

    def _take_frame(self, data: bytes, position: int, out: Out) -> int:
        """Take a frame of any kind, as far as it has come; returns how far. Raises CloseError."""
        within = self._message is not None
        measured = frames.measure(data, position, deflate=self._inflater is not None, within=within)
        if measured is None:
            self._pending = data[position:]
            return len(data)
        header_size, length = measured
        first, start = data[position], position + header_size
        control = first & frames.OPCODE >= CLOSE
        if not control:
            compressed = (self._first if within else first) & COMPRESSED
            self._check_size(length - _allowance(self._most) if compressed else length)
        if start + (length if control else 0) > len(data):
            self._pending = data[position:]
            return len(data)
        mask = data[start - 4 : start]
        if control:
            self._take_control(data[position : start + length], out)
            return start + length
        if self._simple and first in _WHOLE:
            self._simple = False
            self._whole = SingleFrame(first, length, mask, self._buffer_for(length))
            self._whole.add(memoryview(data)[start:])
            return len(data)
        if not within:
            self._message, self._first, self._tail = bytearray(), first, b""
            self._simple = False
            if first & COMPRESSED and self._inflater is not None:
                self._inflater.begin()
        self._left, self._mask, self._final = length, mask, bool(first & FINAL)
        return self._take_payload(data, start, out)

    def _take_payload(self, data: bytes, position: int, out: Out) -> int:
        """Take what has come of a frame's payload; returns how far. Raises CloseError."""
        size = min(self._left, len(data) - position)
        payload = _unmask(memoryview(data)[position : position + size], self._mask)
        self._mask = frames.rotated(self._mask, size)
        self._left -= size
        last = self._final and not self._left
        if self._first & COMPRESSED and self._inflater is not None:
            self._inflater.add(payload, last=last)
        else:
            self._add(payload, last=last)
            if last:
                self._complete(out)
        return position + size

    def _add(self, payload: bytes, *, last: bool) -> None:
        """Bytes of the message in progress. Raises CloseError."""
        if self._message is None:  # the connection is over
            return
        self._check_size(len(payload))
        if self._first & frames.OPCODE == TEXT:
            self._tail = frames.check_text(self._tail, payload, final=last)
        self._message += payload

    def _inflate(self, inflater: Inflater, out: Out) -> None:
        payload = inflater.step()
        self._add(payload, last=inflater.complete)
        if inflater.complete:
            self._complete(out)

    def _deflate(self, deflater: Deflater, out: Out) -> None:
        payload = deflater.step()
        if payload is not None:
            out.append(frames.header(self._first | FINAL, len(payload)))
            self._append(payload, out)

    def _complete(self, out: Out) -> None:
        """All of the message in progress has come: echo it, unless we have said that we close."""
        message, self._message = self._message, None
        if message is None or self._core.state is not OPEN:
            return
        self._simple = True
        self._echoed += len(message)
        # RFC 7692 section 6 leaves it to each message
        if self._first & COMPRESSED and self._deflater is not None and len(message) <= _MOST_DEFLATED:
            self._deflater.begin(message)
        else:
            out.append(frames.header((self._first | FINAL) & ~COMPRESSED, len(message)))
            self._append(message, out)

    def _append(self, payload: bytes | bytearray, out: Out) -> None:
        out.append(payload)
        if len(payload) > _COPIED:
            self._flush(out)

    def _buffer_for(self, length: int) -> memoryview | None:
        """A place to make a large answer in. Raises CloseError."""
        if length <= _COPIED:
            return None
        try:
            return self.context.pool.take(length + frames.LONGEST_HEADER)
        except OSError:
            raise CloseError(
                frames.TRY_AGAIN_LATER, f"no memory for a message of {length} bytes now, try again later"
            ) from None

    def _complete_whole(self, whole: SingleFrame, data: bytes, position: int, out: Out) -> int:
        """Take what belongs to a whole message that has begun to come before; returns how far. Raises CloseError."""
        end = min(position + whole.left, len(data))
        whole.add(memoryview(data)[position:end])
        if whole.left:
            return end
        self._whole = None
        if self._core.state is OPEN:
            self._simple = True
            self._echoed += whole.size
            self._flush(out)
            answer = whole.answer()
            if whole.buffer is None:
                self.send(answer)
            else:
                self.send_pooled(whole.buffer, 0, len(answer))
        return end

    def _check_size(self, more: int) -> None:
        size = more if self._message is None else len(self._message) + more
        if size > self._most:
            raise CloseError(frames.TOO_BIG, f"a message must have at most {self._most} bytes (--max-message)")

    # --- what is answered ---

    def _take_control(self, frame: bytes, out: Out) -> None:
        """Answer a control frame. Raises CloseError."""
        core = self._core
        if frame[0] & frames.OPCODE == CLOSE:
            frames.check_close(_unmask(frame[6:], frame[2:6]))
        core.receive_data(frame)
        core.events_received()
        self._answer_of(core, out)

    def _answer_of(self, core: ServerProtocol, out: Out) -> bool:
        """Take over what the library has to say; returns whether the connection goes on."""
        said = core.data_to_send()
        if SEND_EOF not in said:
            out += said
            return True
        out += said[:-1]
        self._flush(out)
        error = core.parser_exc
        if error is not None and core.close_sent is not None:
            self._count(core.close_sent.code)
            if core.close_sent.code == frames.INTERNAL_ERROR:
                log.error("websocket: %r", error)
        self._end_after_that()
        return False

    def _speak(self) -> None:
        """Send what the library has been told to."""
        out: Out = []
        if self._answer_of(self._core, out):
            self._flush(out)

    def _flush(self, out: Out) -> None:
        if out:
            if len(out[-1]) > _COPIED:
                large = out.pop()
                self.send_list((b"".join(out), large) if out else (large,))
            else:
                self.send(b"".join(out))
            out.clear()

    # --- what is kept ---

    def _account(self) -> None:
        """Account for what waits for its rest, or for its turn."""
        kept = len(self._pending) + len(self._message or b"")
        if self._whole is not None:
            kept += self._whole.size
        if self._inflater is not None and self._deflater is not None:
            kept += self._inflater.kept + self._deflater.kept
        if (change := kept + len(self._unread) - self.buffered) != 0:
            self.account_buffered(change)
        context = self.context
        if kept > _SPARED and context.used >= context.config.buffer_total:
            self._fail(
                CloseError(frames.TRY_AGAIN_LATER, "the server's buffers are full (--buffer-total), try again later")
            )

    def take_turn(self) -> None:
        self.go_on_reading(TURN)
        if (self._unread or self._is_working()) and not self.stopped & BACKLOG and not self.transport.is_closing():
            self.last_activity = self.context.now
            data, self._unread = self._unread, b""
            self._take(data, self._unread_at)

    def on_all_sent(self) -> None:
        if self._unread or self._is_working():
            self.yield_turn()
        super().on_all_sent()

    # --- how it ends ---

    def _count(self, code: int) -> None:
        self.context.counts[_ERRORS.get(code, _ERROR)] += 1

    def _fail(self, error: CloseError) -> None:
        """Close because of something that the client did (RFC 6455 section 7.1.7)."""
        self._count(error.code)
        self._core.fail(error.code, error.reason)
        self._speak()

    def _leave(self, reason: str) -> None:
        """Close, and wait for the client to do so too (RFC 6455 section 7.1.2)."""
        self._core.send_close(frames.GOING_AWAY, reason)
        self._simple = False
        self._since = self.context.loop.time()
        self._speak()

    def _drop_all(self) -> None:
        """Nothing is answered any more."""
        self._over, self._simple = True, False
        self._message = self._whole = self._inflater = self._deflater = None
        self._unread = self._pending = b""
        self._left = 0
        self._since = self.context.now
        if self.buffered:
            self.account_buffered(-self.buffered)

    def _end_after_that(self) -> None:
        self._drop_all()
        self.lingers = True
        if self.close_when_sent():
            self.pause()

    def eof_received(self) -> bool:
        self._drop_all()
        self.lingers = False
        return self.close_when_sent()

    def connection_lost(self, exc: Exception | None) -> None:
        owed = self.unsent
        super().connection_lost(exc)
        self._over, self._simple = True, False
        self._message = self._whole = self._inflater = self._deflater = None
        self._unread = self._pending = b""
        self._left = 0
        self._core.parser.close()  # a generator that knows its core: a cycle
        if self.context.log is not None:
            sent = max(0, self._echoed - owed)
            self.context.log_request(self, self._head, 101, self._echoed, sent, self._began)

    # --- once a sweep, and in a drain ---

    def sweep(self, now: float) -> None:
        config, counts = self.context.config, self.context.counts
        overdue = self.is_stalled(now, config.idle_timeout)
        if overdue and (self.write_queue is not None or self._since is None):
            counts[_IDLE] += 1
            if self.write_queue is not None:
                self.abort()
            else:
                self._leave("idle timeout")
        elif self._since is not None:
            if self.write_queue is not None:
                self._since = now
            elif now - (self.fin_sent or self._since) >= LINGER_TIMEOUT - self.context.interval:
                self.transport.close()
        elif config.ws_ping and self._pinged > self.last_activity:
            if now - self._pinged >= config.ws_ping:
                counts[_PING] += 1
                self._core.fail(frames.INTERNAL_ERROR, "keepalive ping timeout")
                self._speak()
                self.abort()
        elif 0 < config.ws_ping <= now - self.last_activity:
            self._pinged = now
            self._core.send_ping(b"")
            self._speak()
        elif (
            self.context.closing_idle
            and self.idle()
            and (now - self.last_activity >= IDLE_GRACE or now - self._draining >= LINGER_TIMEOUT)
        ):
            self._leave("the server is shutting down")

    def idle(self) -> bool:
        """Between two messages, and all that came is answered."""
        return self._has_nothing() and not self._unread and self.write_queue is None

    def _has_nothing(self) -> bool:
        """Between two messages."""
        return self._message is None and not self._pending and self._whole is None and not self._is_working()

    def drain(self) -> None:
        """It goes on until it is quiet, and one that never is for a while."""
        self._draining = self.context.loop.time()
