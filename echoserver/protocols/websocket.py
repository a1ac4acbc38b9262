"""WebSocket echo (RFC 6455, RFC 7692): a message comes back as one frame of the same type, compressed if it was.

The core of `websockets` (17.4) negotiates, inflates, deflates and answers control frames. A frame that it would do
nothing for but unmask it, which takes it ten times as long as that takes, never gets there; and none does before it is
whole: what has come of one is kept here, where it is counted.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame
from websockets.http11 import Request as Handshake
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from echoserver import counters
from echoserver.connection import LINGER, QUIET, Connection, Protocol
from echoserver.logs import log
from echoserver.messages import frames
from echoserver.messages.frames import BINARY, CLOSE, COMPRESSED, CONTINUATION, FINAL, TEXT, Unacceptable, Whole
from echoserver.messages.request import Request
from echoserver.messages.response import Refusal
from echoserver.protocols.frugal import Frugal
from echoserver.protocols.http_connection import HttpConnection

if TYPE_CHECKING:
    from echoserver.worker import Worker

_unmask = frames.apply_mask
_COPIED = 64 << 10  # payload up to so many bytes is cheaper copied into one write than written from where it is
_SLICED = 4096  # bytes that are sliced faster than viewed
_SPARED = 4096  # bytes of a message that are kept even where the worker keeps all that it may
_TURN = 1 << 20  # bytes inflated in a turn of the loop, after which other connections have theirs
_FRAME = 1 << 10  # bytes that a frame which the library takes counts for

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
_FIELDS = re.compile(rb"\r\n(sec-websocket-[^:\r]*):([^\r]*)", re.IGNORECASE)
_EXPECTED = {
    "Sec-WebSocket-Key": "16 bytes in base64", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Extensions": "a list of extensions", "Sec-WebSocket-Protocol": "a list of tokens",
}  # fmt: skip
# 32 KiB a connection for what is sent; 4 KiB, where the client lets a server say so, for what is received, else 32
_DEFLATE = (
    ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    ),
)
_SILENT = logging.Logger("websockets", logging.CRITICAL + 1)  # it tells of every connection, and prints tracebacks
_TEXT = FINAL | TEXT
_WHOLE = frozenset({_TEXT, FINAL | BINARY})
"""First bytes of frames that may be whole messages, neither fragmented nor compressed."""
_SHORT = tuple({first: frames.header(first, length) for first in _WHOLE} for length in range(126))
"""The headers of short frames, by length and first byte."""

Out = list[bytes | bytearray]
"""What is to be sent, in order."""


class _Core(ServerProtocol):
    """Agrees to the first subprotocol offered: browsers end a connection that agrees to none of theirs."""

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        return subprotocols[0] if subprotocols else None


def upgrade(http: HttpConnection, request: Request) -> "WebSocketEcho":
    """The WebSocket that follows an HTTP connection: it says so when it gets the transport. Raises Refusal."""
    worker = http.worker
    most = worker.config.max_message
    # open: else it would read the request itself
    core = _Core(extensions=_DEFLATE, state=OPEN, max_size=most + _allowance(most), logger=_SILENT)
    fields = Headers(Upgrade="websocket", Connection="Upgrade")
    for name, value in _FIELDS.findall(request.head):
        fields[name.decode("latin-1")] = value.strip(b" \t").decode("latin-1")
    response = core.accept(Handshake("/", fields))
    if response.status_code != 101:
        raise _refusal(core.handshake_exc)
    del response.headers["Date"]
    answer = worker.start(101) + request.extra + response.headers.serialize()
    return WebSocketEcho(worker, request.head, core, answer)


def _allowance(most: int) -> int:
    """Bytes over --max-message that a frame may have: what can't be compressed gets longer (by 1 % with the least
    memLevel of zlib), and the library counts control frames too."""
    return 125 + (most >> 6)


def _refusal(error: Exception | None) -> Refusal:
    name = error.name if isinstance(error, InvalidHeader) else ""
    expected = f"expected {_EXPECTED[name]} in {name}" if name in _EXPECTED else "a handshake was expected"
    version = b"Sec-WebSocket-Version: 13\r\n" if name == "Sec-WebSocket-Version" else b""  # RFC 6455 section 4.4
    return Refusal(400, f"no WebSocket: {expected}", version)


class WebSocketEcho(Connection):
    """One client's messages, answered in order, over TLS or not.

    What of a read is not answered in this turn of the loop stays in _unread, and nothing is read: until other
    connections have had their turn, or until the client has taken what it is owed (paused).
    """

    __slots__ = (
        "_answer", "_began", "_checked", "_core", "_deflate", "_draining", "_echoed", "_first", "_head",
        "_header_size", "_later", "_lent", "_lingering", "_message", "_most", "_over", "_pending", "_pinged", "_simple",
        "_since", "_size", "_tail", "_unread", "_whole", "_work",
    )  # fmt: skip

    PROTOCOL = Protocol("websocket")
    _simple: bool
    """The connection is open, and no message is in progress: a frame may be a whole one."""
    _message: bytearray | None
    """What has come of a fragmented message."""
    _first: int
    """The first byte of its first frame."""
    _tail: bytes
    """The beginning of a character, in which the text that has been checked so far ends."""
    _pending: bytearray | None
    """The beginning of a frame of _size bytes, its header's _header_size included; _size 0: not all of that is here."""
    _whole: Whole | None
    """What has come of a frame that is a whole message."""
    _lent: memoryview | None
    """A buffer of the worker's pool that the transport still has to send some of."""
    _checked: int
    """Bytes of the payload of the frame in _pending that have been checked as text."""
    _work: int
    """What has been done in this turn: bytes inflated, or as many as would have taken as long."""
    _later: bool
    """The loop will go on with _unread."""
    _over: bool
    """What the client still sends is dropped."""
    _lingering: bool
    """After the last frame and our FIN, what the client sends is read on until its own."""
    _since: float | None
    """Since when the client has owed its close, or its FIN; None: it does not."""
    _draining: float
    """Since when a drain has been under way."""
    _pinged: float
    """The worker's time when the last ping was sent."""
    _echoed: int
    """Bytes of messages."""

    def __init__(self, worker: "Worker", head: bytes, core: _Core, answer: bytes) -> None:
        super().__init__(worker)
        self._core = core
        self._deflate = bool(core.extensions)
        self._answer = answer
        self._head = head if worker.log is not None else b""
        self._began = worker.loop.time()
        self._most = worker.config.max_message
        self._simple = True
        self._message = self._pending = self._whole = self._lent = None
        self._tail = self._unread = b""
        self._checked = self._echoed = self._first = self._header_size = self._size = self._work = 0
        self._later = self._lingering = self._over = False
        self._since = None
        self._pinged = self._draining = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.worker.crowded:
            self.take_transport()
        self.worker.counts[_SWITCHED] += 1
        self.send(self._answer)
        self._answer = b""

    def take_transport(self) -> None:
        """Be the transport's protocol, or have it read little at a time."""
        self.transport.set_protocol(Frugal(self) if self.worker.crowded else self)

    def crowd(self) -> None:
        super().crowd()
        self.take_transport()

    # --- what is read ---

    def data_received(self, data: bytes) -> None:
        self.stamp = self.worker.now
        size = len(data)
        self.received += size
        # a short message and nothing else: most are
        if self._simple and 6 <= size < 132 and data[1] == size + 122 and self._pending is None:
            first = data[0]
            if first in _WHOLE:
                payload = _unmask(data[6:], data[2:6])
                if first != _TEXT or payload.isascii():
                    self._echoed += size - 6
                    self.send(_SHORT[size - 6][first] + payload)
                    return
        self._take(data)

    def _take(self, data: bytes) -> None:
        """Answer all whole messages in data, with one write where that is not much, and keep the rest."""
        if self._pending is not None and not self._size:
            data = bytes(self._pending) + data
            self._pending = None
        out: Out = []
        self._work = 0
        try:
            position = self._answer_all(data, out)
        except Unacceptable as error:
            self._flush(out)
            self._fail(error)
            return
        self._flush(out)
        if 0 <= position < len(data):
            self._unread = data[position:]
            if not self.paused:
                self.transport.pause_reading()
                self._go_on_later()
        if self.held or self._unread or not self._has_nothing():
            self._account()

    def _answer_all(self, data: bytes, out: Out) -> int:
        """Take frames; returns where one begins for which there is no time now, or -1. Raises Unacceptable."""
        position, end, most = 0, len(data), self._most
        if self._whole is not None:
            position = self._complete_whole(self._whole, data, out)
        elif self._pending is not None:
            position = self._complete(self._pending, data, out)
        while 0 <= position < end and not self.paused:
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
            if self._over:
                return -1
            if self._work >= _TURN:
                break
            position = self._take_frame(data, position, out)
        return position

    def _take_frame(self, data: bytes, position: int, out: Out) -> int:
        """Take a frame of any kind; returns where the next one begins, -1 where there is none. Raises Unacceptable."""
        within = self._message is not None
        measured = frames.measure(data, position, deflate=self._deflate, within=within)
        if measured is None:
            self._pending = bytearray(data[position:])
            self._size = 0
            return -1
        self._header_size, length = measured
        if data[position] & frames.OPCODE < CLOSE:
            compressed = (self._first if within else data[position]) & COMPRESSED
            self._check_size(length - _allowance(self._most) if compressed else length)
        end = position + self._header_size + length
        if end <= len(data):
            return end if self._take_whole(data[position:end], out) else -1
        start = position + self._header_size
        if start > len(data):
            self._pending = bytearray(data[position:])
            self._size = 0
            return -1
        if self._simple and data[position] in _WHOLE:
            self._simple = False
            self._whole = Whole(data[position], length, data[start - 4 : start], self._buffer_for(length))
            self._whole.add(memoryview(data)[start:])
            return -1
        self._pending = bytearray(memoryview(data)[position:])
        self._size = end - position
        self._check_pending(self._pending)
        return -1

    def _buffer_for(self, length: int) -> memoryview | None:
        """A place to make a large answer in. Raises Unacceptable."""
        if length <= _COPIED:
            return None
        try:
            return self.worker.pool.take(length + frames.LONGEST_HEADER)
        except OSError:
            raise Unacceptable(frames.TRY_AGAIN_LATER, "there is no room for so long a message") from None

    def _complete_whole(self, whole: Whole, data: bytes, out: Out) -> int:
        """Take what belongs to a whole message that has begun to come before; returns as _take_frame()."""
        size = min(whole.left, len(data))
        whole.add(memoryview(data)[:size])
        if whole.left:
            return -1
        self._whole = None
        if self._core.state is OPEN:
            self._simple = True
            self._echoed += whole.size
            self._flush(out)
            behind = self.behind is not None
            self.send(whole.answer())
            if whole.buffer is not None:
                if behind or self.behind is None:
                    self.worker.pool.give(whole.buffer)
                else:
                    self._lent = whole.buffer
        return size

    def resume_writing(self) -> None:
        if self._lent is not None:
            self.worker.pool.give(self._lent)
            self._lent = None
        super().resume_writing()

    def _complete(self, pending: bytearray, data: bytes, out: Out) -> int:
        """The same for a frame that has begun to come before."""
        rest = self._size - len(pending)
        if len(data) < rest:
            pending += data
            self._check_pending(pending)
            return -1
        pending += data if len(data) == rest else memoryview(data)[:rest]
        self._pending = None
        return rest if self._take_whole(pending, out) else -1

    def _check_size(self, more: int) -> None:
        size = more if self._message is None else len(self._message) + more
        if size > self._most:
            raise Unacceptable(frames.TOO_BIG, f"a message has {self._most} bytes at most")

    def _check_pending(self, pending: bytearray) -> None:
        """Text is checked as it comes, also that of a frame that is not whole."""
        start = pending[0] if pending[0] & frames.OPCODE else self._first
        begin = self._header_size + self._checked
        if start & frames.OPCODE != TEXT or start & COMPRESSED or pending[0] & CLOSE or len(pending) <= begin:
            return
        mask = frames.rotated(bytes(pending[self._header_size - 4 : self._header_size]), self._checked)
        self._tail = frames.check_text(self._tail, _unmask(memoryview(pending)[begin:], mask), final=False)
        self._checked = len(pending) - self._header_size

    # --- what is answered ---

    def _take_whole(self, frame: bytes | bytearray, out: Out) -> bool:
        """Answer a frame; returns whether others may follow. Raises Unacceptable."""
        first, core = frame[0], self._core
        self._work += _FRAME
        if first & frames.OPCODE == CLOSE:
            core.current_size = None  # to the library a close within a message is an error; see RFC 6455 section 5.4
        core.receive_data(frame)
        for event in core.events_received():
            if isinstance(event, Frame) and event.opcode < CLOSE:
                self._take_fragment(event, first, out)
        return self._answer_of(core, out)

    def _take_fragment(self, fragment: Frame, first: int, out: Out) -> None:
        """A frame with data, which may be all of a message, as the library has it: unmasked and inflated."""
        data = bytes(fragment.data)
        if first & frames.OPCODE != CONTINUATION:
            self._first = first
        start = self._first
        if start & COMPRESSED:
            self._work += len(data)
        self._check_size(len(data))
        self._check_rest(start, data, final=fragment.fin)
        message: bytes | bytearray = data
        if self._message is not None:
            self._message += data
            message = self._message
        elif not fragment.fin:
            self._message = bytearray(data)
            self._simple = False
        if fragment.fin:
            self._message = None
            if self._core.state is OPEN:
                self._simple = True
                self._echo(start | FINAL, message, out)

    def _check_rest(self, start: int, payload: bytes, *, final: bool) -> None:
        """Check of a payload, if it is text, what has not been checked yet."""
        if start & frames.OPCODE == TEXT:
            rest = payload[self._checked :] if self._checked else payload
            self._tail = frames.check_text(self._tail, rest, final=final)
        self._checked = 0

    def _echo(self, first: int, message: bytes | bytearray, out: Out) -> None:
        self._echoed += len(message)
        if first & COMPRESSED and len(message) <= _TURN:  # RFC 7692 section 6 leaves it to each message
            core = self._core
            (core.send_text if first & frames.OPCODE == TEXT else core.send_binary)(message)
            out += core.data_to_send()
        else:
            out.append(frames.header(first & ~COMPRESSED, len(message)))
            out.append(message)
        if len(out[-1]) > _COPIED:
            self._flush(out)

    def _answer_of(self, core: _Core, out: Out) -> bool:
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
        kept = len(self._pending or b"") + len(self._message or b"")
        if self._whole is not None:
            kept += self._whole.size
        if (change := kept + len(self._unread) - self.held) != 0:
            self.hold(change)
        worker = self.worker
        if kept > _SPARED and worker.owed >= worker.config.buffer_total:
            self._fail(Unacceptable(frames.TRY_AGAIN_LATER, "too much is kept for other clients"))

    def _go_on_later(self) -> None:
        if not self._later:
            self._later = True
            self.worker.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take what has been read already."""
        self._later = False
        if self._unread and not self.paused and not self.transport.is_closing():
            self.transport.resume_reading()
            data, self._unread = self._unread, b""
            self._take(data)

    def caught_up(self) -> None:
        if self.paused and self._unread:
            self.paused = False
            self._go_on_later()
        else:
            super().caught_up()

    # --- how it ends ---

    def _count(self, code: int) -> None:
        self.worker.counts[_ERRORS.get(code, _ERROR)] += 1

    def _fail(self, error: Unacceptable) -> None:
        """Close because of something that the client did (RFC 6455 section 7.1.7)."""
        self._count(error.code)
        self._core.fail(error.code, error.reason)
        self._speak()

    def _leave(self, reason: str) -> None:
        """Close, and wait for the client to do so too (RFC 6455 section 7.1.2)."""
        self._core.send_close(frames.GOING_AWAY, reason)
        self._simple = False
        self._since = self.worker.loop.time()
        self._speak()

    def _drop_all(self) -> None:
        """Nothing is answered any more."""
        self._over, self._simple = True, False
        self._pending = self._message = self._whole = None
        self._unread = b""
        self._since = self.worker.now
        if self.held:
            self.hold(-self.held)

    def _end_after_that(self) -> None:
        self._drop_all()
        self._lingering = True
        if self.finish():
            self.pause()

    def end(self) -> None:
        """Close in stages, as HTTP does (RFC 9112 section 9.6): our FIN, then read on until the client's."""
        if self._lingering:
            self._since = self.worker.loop.time()
            self.transport.write_eof()
        else:
            self.transport.close()

    def eof_received(self) -> bool:
        self._drop_all()
        self._lingering = False
        return self.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        owed = self.owed
        super().connection_lost(exc)
        self._over, self._simple = True, False
        self._pending = self._message = self._whole = None
        self._unread = b""
        self._core.parser.close()  # a generator that knows its core: a cycle
        if self.worker.log is not None:
            sent = max(0, self._echoed - owed)
            self.worker.log_request(self, self._head, 101, self._echoed, sent, self._began)

    # --- once a sweep, and in a drain ---

    def sweep(self, now: float) -> None:
        config, counts = self.worker.config, self.worker.counts
        overdue = self.stalled(now, config.idle_timeout)
        if overdue and (self.behind is not None or self._since is None):
            counts[_IDLE] += 1
            if self.behind is not None:
                self.cut()
            else:
                self._leave("idle timeout")
        elif self._since is not None:
            if self.behind is not None:
                self._since = now
            elif now - self._since >= LINGER - self.worker.interval:
                self.transport.close()
        elif config.ws_ping and self._pinged > self.stamp:
            if now - self._pinged >= config.ws_ping:
                counts[_PING] += 1
                self._core.fail(frames.INTERNAL_ERROR, "keepalive ping timeout")
                self._speak()
                self.cut()
        elif 0 < config.ws_ping <= now - self.stamp:
            self._pinged = now
            self._core.send_ping(b"")
            self._speak()
        elif self.worker.hurried and self.idle() and (now - self.stamp >= QUIET or now - self._draining >= LINGER):
            self._leave("the server stops")

    def idle(self) -> bool:
        """Between two messages, and all that came is answered."""
        return self._has_nothing() and not self._unread and self.behind is None

    def _has_nothing(self) -> bool:
        """Between two messages."""
        return self._message is None and self._pending is None and self._whole is None

    def drain(self) -> None:
        """It goes on until it is quiet, and one that never is for a while."""
        self._draining = self.worker.loop.time()
