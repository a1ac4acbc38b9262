"""WebSocket echo (RFC 6455, RFC 7692): a message comes back as one frame of the same type, compressed if it was.

The core of `websockets` (17.4) negotiates and answers control frames. Frames with data never get there: short ones are
answered here, and all others by an Assembly, a step at a time; what that keeps is counted here.
"""

import asyncio
from time import monotonic

from websockets.protocol import SEND_EOF
from websockets.server import ServerProtocol

from echoserver.observe import counters
from echoserver.observe.logs import log
from echoserver.protocols.websocket.assembly import COPIED, SHORT, WHOLE, WHOLE_TEXT, Assembly, Out
from echoserver.transport.connection import FULL_READ, IDLE_GRACE, TURN_SECONDS, Connection
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.transport.readers import attach
from echoserver.transport.stream import BACKLOG, LINGER_TIMEOUT, TURN
from echoserver.wire import frames
from echoserver.wire.frames import CLOSE, CloseError, SingleFrame

_unmask = frames.apply_mask
_SPARED = 4096  # bytes of a message that are kept even where the worker keeps all that it may

_ACCEPTED = {status: counters.index("requests", f"{status // 100}xx") for status in (101, 200)}
_IDLE, _PING = (counters.index("timeouts", each) for each in ("idle", "ping"))
_ERROR = counters.index("errors", "websocket")
_ERRORS = {
    code: counters.index("errors", reason)
    for code, reason in {
        frames.TOO_BIG: "content_too_long", frames.TRY_AGAIN_LATER: "too_much_memory",
        frames.INTERNAL_ERROR: "internal",
    }.items()
}  # fmt: skip


class WebSocketEcho(Connection):
    """One client's messages, answered in order, over TLS or not.

    What of a read is not answered in this turn of the loop stays in _assembly, and nothing is read: until other
    connections have had their turn (TURN), or until the client has taken what it is owed (BACKLOG).
    """

    __slots__ = (
        "_answer", "_assembly", "_began", "_client_fin", "_core", "_draining", "_echoed", "_head", "_over", "_pinged",
        "_simple", "_since", "_status",
    )  # fmt: skip

    _simple: bool
    """The connection is open, and nothing is under way: a read may be a whole message."""
    _over: bool
    """What the client still sends is dropped."""
    _since: float | None
    """Since when the client has owed its close, or its FIN, or has taken nothing of ours; None: it owes nothing."""
    _client_fin: bool
    """The client's FIN has been read, and is heeded when all that came before it has been answered."""
    _draining: float
    """Since when a drain has been under way."""
    _pinged: float
    """The worker's time when the last ping was sent."""
    _echoed: int
    """Bytes of short messages; the assembly counts those of all others."""

    def __init__(self, context: Context, origin: Origin, head: bytes, core: ServerProtocol, answer: bytes) -> None:
        super().__init__(context, origin)
        self._core = core
        self._assembly = Assembly(core.extensions, context.config.max_message, context.pool)
        core.extensions = []
        self._answer = answer
        self._status = int(answer[9:12])
        self._head = head if context.log is not None else b""
        self._began = context.loop.time()
        self._simple = True
        self._over = self._client_fin = False
        self._echoed = 0
        self._since = None
        self._pinged = self._draining = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.context.under_pressure:
            attach(self)
        self.context.counts[_ACCEPTED[self._status]] += 1
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
        if self._simple and 6 <= size < 132 and data[1] == size + 122:
            first = data[0]
            if first in WHOLE:
                payload = _unmask(data[6:], data[2:6])
                if first != WHOLE_TEXT or payload.isascii():
                    self._echoed += size - 6
                    self.send(SHORT[size - 6][first] + payload)
                    return
        if not self._over:
            self._assembly.receive(data)
            self._go_on()
        if size >= FULL_READ:
            self.yield_turn()

    def _go_on(self) -> None:
        """Answer what has come, as far as there is time for it, and with one write where that is not much."""
        assembly, deadline = self._assembly, 0.0
        out: Out = []
        try:
            while True:
                event = assembly.step(out)
                if event is None:
                    if out and len(out[-1]) > COPIED:
                        self._flush(out)
                elif isinstance(event, SingleFrame):
                    self._flush(out)
                    self._send_single(event)
                else:
                    self._take_control(event, out)
                if not assembly.ready:
                    break
                now = monotonic()
                deadline = deadline or now + TURN_SECONDS
                if now >= deadline or self.stopped:
                    break
        except CloseError as error:
            self._flush(out)
            self._fail(error)
            return
        self._flush(out)
        if assembly.ready and not self.stopped & BACKLOG:
            self.yield_turn()
        self._simple = assembly.idle and self._since is None
        if self.buffered or not assembly.idle:
            self._account()
        if self._client_fin and not assembly.ready and not self._over:
            self.eof_received()

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

    def _send_single(self, single: SingleFrame) -> None:
        answer = single.answer()
        if single.buffer is None:
            self.send(answer)
        else:
            self.send_pooled(single.buffer, 0, len(answer))

    def _flush(self, out: Out) -> None:
        if out:
            if len(out[-1]) > COPIED:
                large = out.pop()
                self.send_list((b"".join(out), large) if out else (large,))
            else:
                self.send(b"".join(out))
            out.clear()

    # --- what is kept ---

    def _account(self) -> None:
        """Account for what waits for its rest, or for its turn."""
        kept = self._assembly.kept
        if (change := kept + len(self._assembly.unread) - self.buffered) != 0:
            self.account_buffered(change)
        context = self.context
        if kept > _SPARED and context.used >= context.config.buffer_total:
            self._fail(
                CloseError(frames.TRY_AGAIN_LATER, "the server's buffers are full (--buffer-total), try again later")
            )

    def take_turn(self) -> None:
        self.go_on_reading(TURN)
        if self._assembly.ready and not self.stopped & BACKLOG and not self.transport.is_closing():
            self.last_activity = self.context.now
            self._go_on()

    def on_all_sent(self) -> None:
        if self._since is not None:
            self._since = self.context.now
        if self._assembly.ready:
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
        self._assembly.mute()
        self._simple = False
        self._since = self.context.loop.time()
        if self.buffered:
            self._account()
        self._speak()

    def _drop_all(self) -> None:
        """Nothing is answered any more."""
        self._over, self._simple = True, False
        self._assembly.drop()
        self._since = self.context.now
        if self.buffered:
            self.account_buffered(-self.buffered)

    def _end_after_that(self) -> None:
        self._drop_all()
        self.lingers = not self._client_fin
        if self.close_when_sent():
            self.pause()

    def eof_received(self) -> bool:
        if self._assembly.ready:
            self._client_fin = True
            return True
        self._drop_all()
        self.lingers = False
        return self.close_when_sent()

    def connection_lost(self, exc: Exception | None) -> None:
        owed = self.unsent
        super().connection_lost(exc)
        self._over, self._simple = True, False
        self._assembly.drop()
        self._core.parser.close()  # a generator that knows its core: a cycle
        if self.context.log is not None:
            echoed = self._echoed + self._assembly.echoed
            self.context.log_request(self, self._head, self._status, echoed, max(0, echoed - owed), self._began)

    # --- once a sweep, and in a drain ---

    def sweep(self, now: float) -> None:
        config, counts = self.context.config, self.context.counts
        unsent = self.unsent_before
        overdue = self.is_stalled(now, config.idle_timeout)
        if self._since is not None and self.write_queue is not None:
            if self.unsent_before < unsent:
                self._since = now
            # whatever it sends: it is to take our close
            overdue = 0 < config.idle_timeout <= now - self._since
        if overdue and (self.write_queue is not None or self._since is None):
            counts[_IDLE] += 1
            if self.write_queue is not None:
                self.abort()
            else:
                self._leave("idle timeout")
        elif self._since is not None:
            waited = now - (self.fin_sent or self._since)
            if self.write_queue is None and waited >= LINGER_TIMEOUT - self.context.interval:
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
        return self._assembly.idle and self.write_queue is None

    def drain(self) -> None:
        """It goes on until it is quiet, and one that never is for a while."""
        self._draining = self.context.loop.time()
