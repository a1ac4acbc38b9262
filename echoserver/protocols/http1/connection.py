"""HTTP/1.1 and HTTP/1.0 echo: the request's content, or where it has none, its header section (RFC 9110, RFC 9112).

What a connection is doing is one of the states of states.py; content under way is an object of content.py, gather.py or
demand.py, which this module gives what comes.
"""

import asyncio
import math
import socket
from collections.abc import Callable, Mapping
from time import monotonic

from echoserver.observe import counters
from echoserver.protocols.http1.content import NO_CONTENT, Chunked, Content, Parts, Relayed, echo_fields
from echoserver.protocols.http1.demand import FedDemand
from echoserver.protocols.http1.gather import Gathered
from echoserver.protocols.http1.site import Site
from echoserver.protocols.http1.states import (
    ANSWERING,
    BLANK,
    CLOSED,
    CLOSING,
    CONTENT,
    HEAD,
    IDLE,
    LINGERING,
    NEW,
    PARKED,
    Deadline,
    Fin,
    State,
)
from echoserver.transport.connection import FULL_READ, IDLE_GRACE, TURN_SECONDS, Connection
from echoserver.transport.context import Context, client
from echoserver.transport.origin import Origin
from echoserver.transport.readers import attach
from echoserver.transport.stream import BACKLOG, TURN
from echoserver.wire import request as messages
from echoserver.wire import response as responses
from echoserver.wire.chunked import one_chunk
from echoserver.wire.http2_frames import PREFACE
from echoserver.wire.reader import ORDINARY_SIZE, RequestReader
from echoserver.wire.request import NO_REQUEST, Request
from echoserver.wire.response import HttpError

_COPIED = 4096  # content up to so many bytes is cheaper copied into one write than written from where it is
_IN_PARTS = 64 << 10  # content up to so many bytes is kept as it was read; more is received into one buffer
_WINDOW = 16 << 10  # bytes of pipelined requests that are answered without a look at the clock where they repeat
_MEMO_SIZE = ORDINARY_SIZE  # bytes of a header section at most that is kept for the next time
_IDLE_MEMO_SIZE = 1 << 10  # likewise, while the connection is idle
_SPARED = 4096  # bytes of a header section that are kept even where the worker keeps all that it may

_OK = counters.ANSWERED[2]
_FULL, _DRAINING = (counters.index("errors", reason) for reason in ("too_many_connections", "draining"))
_HEADER, _KEEP_ALIVE, _IDLE = (counters.index("timeouts", each) for each in ("header", "keep_alive", "idle"))
_CUT_OFF = 499  # what the access log says, as nginx's does, of a request whose client went away


class HttpConnection(Connection):
    """One client's requests, answered in order.

    What of a read is not worked off in this turn of the loop stays in _pending: until other connections have had their
    turn (TURN), the client has taken what it is owed (BACKLOG), or the request before has been answered (DEMAND).
    """

    __slots__ = (
        "_began", "_client_fin", "_hits", "_is_first", "_last", "_memo", "_owed_since", "_partial_head", "_pending",
        "content", "reader", "request", "site", "state",
    )  # fmt: skip

    state: State
    content: Content
    """What is under way, in CONTENT and ANSWERING; else NO_CONTENT."""
    request: Request
    """The request that the content belongs to; else NO_REQUEST."""
    reader: RequestReader
    """Reads header sections for connections like this one."""
    _memo: Request
    """The last request, if the next one may be the same and be answered at once; else NO_REQUEST. See _remember()."""
    _hits: int
    """How often it has come again: counted with all its bytes when it is another request's turn."""
    _last: bytes
    """The header section of the last ordinary request; NO_REQUEST's before the first."""
    _partial_head: bytearray | None
    """The beginning of a header section, in HEAD and BLANK."""
    _owed_since: float
    """In NEW, HEAD and BLANK: when the client began to owe a header section, or the rest of it."""
    _began: float
    """The loop's time when the request being received began to come, 0 before; only where there is an access log."""
    _pending: tuple[bytes, int] | None
    """What has been read, and from which position on it has not been worked off."""
    _is_first: bool
    """Nothing has been answered yet, but for ordinary requests."""
    _client_fin: bool
    """The client's FIN has been read, and is heeded when all that came before it has been answered."""

    def __init__(self, context: Context, origin: Origin, site: Site) -> None:
        super().__init__(context, origin)
        self.state = NEW
        self.content = NO_CONTENT
        self._partial_head = self._pending = None
        self.request = self._memo = NO_REQUEST
        self.site = site
        self.reader = site.reader
        if origin.tls is not None and (certificate := origin.tls.getpeercert()):
            self.reader = site.reader_for(certificate)
        self._hits = 0
        self._last = NO_REQUEST.head
        self._began = 0.0
        self._client_fin = False
        self._is_first = True
        self._owed_since = context.now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        context = self.context
        if context.log is not None:
            client(self)
        if context.under_pressure:
            attach(self)
        if self.site.public and context.at_capacity():
            if len(context.connections) > context.max_connections + context.refusals:
                context.counts[_FULL] += 1
                self.abort()
            else:
                self._send_error(HttpError(503, "too many connections"), counter=_FULL)
        elif context.rejecting:
            self._send_error(HttpError(503, "the server is shutting down"), counter=_DRAINING)

    # --- the requests ---

    def data_received(self, data: bytes) -> None:
        context = self.context
        self.last_activity = context.now
        request = self._memo
        # the same header section as last time, with its content: no need to read it again
        if len(data) != request.size or not data.startswith(request.head):
            self.received += len(data)
            if (
                len(data) > self.site.ordinary_size
                or (self.state is not IDLE and self.state is not NEW)
                or not self._answer_ordinary(data)
            ):
                _TAKES[self.state](self, data)
                if len(data) >= FULL_READ:
                    self.yield_turn()
            return
        self._hits += 1
        content = request.head_size
        if request.content_length <= _COPIED:
            self.transport.write(self.site.prefix + request.answer + data[content:])
        else:
            self.send_list((self.site.prefix + request.answer, memoryview(data)[content:]))
            self.sent -= len(self.site.prefix) + len(request.answer) + request.content_length
        if context.log is not None:
            self._log(request.head, 200, request.content_length, request.echoed)

    def _answer_ordinary(self, data: bytes) -> bool:
        """Answer data if it is an ordinary request, and none that comes again: that one is to be remembered."""
        site, context = self.site, self.context
        if data.startswith(self._last):
            return False
        answer = self.reader.answer(data, site.prefix)
        if answer is None:
            return False
        response, head_size, goes_on = answer
        self.state = IDLE
        self._last = data[:head_size]
        if not goes_on:
            self._cork()
        self.send(response)
        context.counts[_OK] += 1
        if context.log is not None:
            content = len(data) - head_size
            self._log(self._last, 200, content, content or head_size)
        if not goes_on:
            self._drop_all()
        return True

    def _answer_all(self, data: bytes, position: int = 0) -> None:  # noqa: PLR0912, PLR0915 - a call takes a tenth of
        # what a request does
        """Answer all whole requests in data, with one write, and begin with the one that is not whole."""
        context = self.context
        request = self._memo
        out: list[bytes] = []
        log, answered = context.log, 0
        served: list[Request] = []
        if log is not None and not self._began:
            self._began = context.loop.time()
        end = len(data)
        # then, or after a head that had to be read, the clock is looked at
        until = end if end - position <= _WINDOW else position + _WINDOW
        over = 0.0
        while True:
            while position < until:
                if request is NO_REQUEST or not data.startswith(request.head, position):
                    until = position
                    if data.startswith(b"\r\n", position):  # RFC 9112 section 2.2: empty lines before the request line
                        position = messages.skip_empty_lines(data, position)
                        continue
                    blank = data.find(b"\r\n\r\n", position)
                    if blank < 0:
                        self.flush(out)
                        self._count(answered, served)
                        self._take_head(data[position:])
                        return
                    head = data[position : blank + 4]
                    try:
                        if len(head) > context.config.max_header:
                            raise messages.too_long(head, context.config.max_header)
                        request = self.reader.read(head)
                    except HttpError as error:
                        self.flush(out)
                        self._count(answered, served)
                        first = self._is_first and self._last is NO_REQUEST.head and not position
                        if not (first and PREFACE.startswith(head) and self._switch(data)):
                            self._send_error(error, head)
                        return
                content = position + request.head_size
                if request.size >= 0 and position + request.size <= end:
                    position += request.size
                    answered += 1
                    if log is not None:
                        served.append(request)
                    out.append(self.site.prefix)
                    out.append(request.answer)
                    if position > content and not request.no_body:
                        out.append(data[content:position])
                else:
                    until = position
                    if answered:
                        self._count(answered, served)
                        answered = 0
                    position = self._answer_one(request, data, content, out)
                    if position < 0:
                        return
                if not request.keep_alive:
                    self._cork()
                    self.flush(out)
                    self._count(answered, served)
                    self._drop_all()
                    return
            if position >= end:
                break
            now = monotonic()
            over = over or now + TURN_SECONDS
            if now >= over or self.stopped:
                break
            until = min(position + _WINDOW, end)
        self.flush(out)
        if answered:
            self._count(answered, served)
        if request is not NO_REQUEST:  # not only empty lines
            self.state = IDLE
            self._expect_again(request)
        self._began = 0.0
        if position < end:
            self.postpone(data, position)

    def _answer_one(self, request: Request, data: bytes, position: int, out: list[bytes]) -> int:
        """Answer a request that needs more than its prebuilt answer, or begin to; its content begins at position.

        Returns where the next request begins, or -1 where data does not hold all of this one; then all is flushed.
        """
        asked = request.controls is not None
        if request.upgrade and not asked:
            self.flush(out)
            self._upgrade(request, data[position:])
            return -1
        if request.page is not None:
            answer, sent, status = self.site.answer(request, request.page)
            out.append(answer)
            self._record(request, 0, sent, status)
            if sent > _COPIED:  # whether the client takes it has to be known before the next
                self.flush(out)
            return position
        end = position + request.content_length
        if not asked and not request.chunked and end <= len(data):
            out.append(self.site.prefix + request.answer + (b"" if request.no_body else data[position:end]))
            self._record(request, request.content_length, request.echoed)
            return end
        most = self.context.config.max_body
        if (
            not asked
            and request.chunked
            and (whole := one_chunk(data, position))
            and (not most or len(whole[0]) <= most)
        ):
            content, end = whole
            out += self.site.prefix, echo_fields(request, len(content))
            if not request.no_body:
                out.append(content)
            self._record(request, len(content), 0 if request.no_body else len(content))
            return end
        return self._begin_content(request, data, position, out)

    def _upgrade(self, request: Request, rest: bytes) -> None:
        """Leave the connection to WebSocket, with what came behind the header section."""
        begin = self.site.upgrade
        try:
            if begin is None:
                raise HttpError(501, "WebSocket is not installed: expected pip install 'echoserver[websocket]'")
            following = begin(self.site, self.origin, request)
        except HttpError as error:
            self._send_error(error, request.head)
            return
        self._hand_over(following, rest)

    def _switch(self, data: bytes) -> bool:
        """Leave the connection to HTTP/2, whose preface has come (RFC 9113 section 3.3), if there is any."""
        begin = self.site.begin_http2
        if begin is None:
            return False
        try:
            following = begin(self.site, self.origin)
        except HttpError as error:
            self._send_error(error)
            return True
        self._hand_over(following, data)
        return True

    def _hand_over(self, following: Connection, rest: bytes) -> None:
        """Leave the transport to another protocol, with what of the rest of a read is for that."""
        self.received -= len(rest)
        self.hand_over(following)
        if not self.transport.is_closing():
            following.take(rest)
        if self._client_fin and not self.transport.is_closing():
            following.eof_received()

    def _go_on(self, request: Request, data: bytes, position: int) -> None:
        """Go on after a request that did not come in one read; data from position on is what came behind it."""
        self._began = 0.0
        self.last_activity = self.context.now  # an answer on demand may have taken its time
        if not request.keep_alive:
            self._drop_all()
            return
        self._expect_again(request)
        if position < len(data):
            self._answer_all(data, position)

    def _expect_again(self, request: Request) -> None:
        """The next request may be the same as this one, and be answered at once."""
        if request is self._memo:
            return
        if self.write_queue is not None or request.size >= FULL_READ or not self._may_repeat(request):
            self._remember(NO_REQUEST)
        else:
            self._remember(request)

    def _may_repeat(self, request: Request) -> bool:
        return (
            request.keep_alive
            and request.head_size <= _MEMO_SIZE
            and not (request.no_body and request.content_length)
            and not request.probe
            and not self.context.draining
        )

    def flush(self, out: list[bytes]) -> None:
        """Send all that is in out, with one write."""
        if out:
            self.send(b"".join(out))
            out.clear()

    # --- a header section that comes in pieces ---

    def _take_head(self, data: bytes, position: int = 0) -> None:
        context, head = self.context, self._partial_head
        if head is None:
            self._remember(NO_REQUEST)
            head = self._partial_head = bytearray()
            self._owed_since = context.now
            self._began = 0.0
        if context.log is not None and not self._began:
            self._began = context.loop.time()
        scanned = len(head)
        head += data[position:] if position else data
        if head.startswith(b"\r\n"):
            del head[: messages.skip_empty_lines(head, 0)]
            scanned = 0
        self.account_buffered(len(head) - self.buffered)
        if not head or head == b"\r":
            self._began = 0.0
            self.state = BLANK if head else NEW
            self._partial_head = head or None
            return
        self.state = HEAD
        if head.find(b"\r\n\r\n", max(0, scanned - 3)) < 0:
            try:
                messages.check_partial_head(head, scanned, context.config.max_header)
                if len(head) > _SPARED and context.used >= context.config.buffer_total:
                    raise HttpError(503, "the server's buffers are full (--buffer-total)")
            except HttpError as error:
                self._send_error(error, bytes(head))
            return
        self._partial_head = None
        self.account_buffered(-self.buffered)
        self.state = IDLE
        self._answer_all(bytes(head))

    # --- content that comes in pieces, or is answered on demand ---

    def _begin_content(self, request: Request, data: bytes, position: int, out: list[bytes]) -> int:
        """Returns where the next request begins, or -1 where data does not hold all of this one, or not yet."""
        context = self.context
        self._remember(NO_REQUEST)
        self.request = request
        self.state = CONTENT
        waits = request.expects and position == len(data)
        if request.controls is not None:
            self.flush(out)
            self.content = demand = FedDemand(self, request, request.controls)
            if context.used >= context.config.buffer_total and demand.keeps():
                self._send_error(HttpError(503, "the server's buffers are full (--buffer-total)"), request.head)
                return -1
            if waits:
                demand.heed_expectation()
            return self._feed(demand, data, position, out)
        if waits:
            out.append(responses.CONTINUE)
        if request.chunked:
            self.content = Chunked(self)
            return self._feed(self.content, data, position, out)
        self.flush(out)
        relays = self.unsent + request.content_length > context.config.buffer_limit
        if request.content_length > _IN_PARTS and not (relays or context.under_pressure or request.no_body):
            self.content = gathered = Gathered(self, request)
            try:
                gathered.start(data[position:])
            except OSError:
                relays = True  # the system has no room for a buffer of this size
            else:
                return -1
        self.content = Parts(self, relays=relays)
        return self._feed(self.content, data, position, out) if position < len(data) else -1

    def _take_content(self, data: bytes, position: int = 0) -> None:
        request, content = self.request, self.content
        out: list[bytes] = []
        end = self._feed(content, data, position, out)
        if end >= 0:
            self.flush(out)
            self._go_on(request, data, end)

    def _feed(self, content: Content, data: bytes, position: int, out: list[bytes]) -> int:
        """Returns where the next request begins, if this one has been answered and there may be one, else -1."""
        try:
            end = content.feed(data, position, out)
        except HttpError as error:
            self.flush(out)
            if content.begun:
                self._cut_short(error.status)
            else:
                self._send_error(error, self.request.head)
            return -1
        if end < 0:
            if content.complete:
                self.state = ANSWERING
            return -1
        return end if self._complete(content, data, end) else -1

    def _complete(self, content: Content, data: bytes, end: int) -> bool:
        """The request under way has been answered; data from end on is what came behind it.

        Returns whether the connection goes on with requests.
        """
        request, received, answered = self.request, content.received, content.answered
        self._stop_content()
        self.state = IDLE
        self.account()
        if content.switches:
            if self._client_fin:
                self._log(request.head, _CUT_OFF, received, 0)
                self._end()
            else:
                self._upgrade(request, data[end:])
            return False
        self._record(request, received, answered, content.status)
        if content.resets:
            self.reset()
        elif content.closes:
            self._drop_all()
        else:
            return True
        return False

    def _stop_content(self) -> None:
        """There is no content under way any more; if something read it in our place, we have the transport again."""
        content, self.content = self.content, NO_CONTENT
        self.request = NO_REQUEST
        content.stop()
        if content.in_place and not self.transport.is_closing():
            attach(self)

    def _keep_for_later(self, data: bytes, position: int = 0) -> None:
        """What comes while a request is answered on demand."""
        before, start = self._pending or (b"", 0)
        self._pending = before[start:] + data[position:], 0
        self.content.regulate()

    def pending_bytes(self) -> int:
        """Bytes that have been read and not been worked off."""
        return len(self._pending[0]) - self._pending[1] if self._pending is not None else 0

    def on_answered(self) -> None:
        """A Demand is complete, in another turn than that in which the request was."""
        request, content = self.request, self.content
        data, position = self._pending or (b"", 0)
        self._pending = None
        if self._complete(content, data, position):
            self._go_on(request, data, position)
        self._heed_fin()

    @property
    def behind(self) -> bool:
        """Whether the client does not take all that it is sent."""
        return self.write_queue is not None

    def facts(self) -> Mapping[str, object]:
        """What only this version of HTTP has to be described: nothing."""
        return {}

    def send_continue(self) -> None:
        """Ask for the content that the client waits with."""
        self.send(responses.CONTINUE)

    def send_head(self, head: bytes) -> None:
        """A response begins."""
        self.send(head)

    def send_content(self, content: bytes | bytearray, *, chunked: bool) -> None:
        """A piece of its content, not empty."""
        self.send(responses.chunk(bytes(content)) if chunked else content)

    def send_end(self, *, chunked: bool) -> None:
        """A response ends."""
        if chunked:
            self.send(responses.LAST_CHUNK)

    def send_whole(self, head: bytes, content: bytes, *, chunked: bool) -> None:
        """A whole response, with one write."""
        if chunked:
            content = (responses.chunk(content) if content else b"") + responses.LAST_CHUNK
        self.send(head + content)

    def relay(self, left: int) -> None:
        """So many bytes of the content are still to come, and are to be moved on as they do."""
        self.content = Relayed(self, self.request.content_length, left, self._on_relayed)

    def _on_relayed(self) -> None:
        request = self.request
        self._complete(self.content, b"", 0)
        self._go_on(request, b"", 0)

    def on_whole(self, buffer: memoryview, place: int, end: int, rest: bytes) -> None:
        """A Gathered has all of the content, or as much as may be kept, from place to end in a buffer.

        rest came behind it. The answer's head goes before it; the buffer is done with when both have been sent.
        """
        request, content = self.request, self.content
        self.last_activity = self.context.now
        head = self.site.prefix + request.answer
        start = place - len(head)
        buffer[start:place] = head
        if self.buffered:
            self.account_buffered(-self.buffered)
        self.send_pooled(buffer, start, end)
        left = request.content_length - (end - place)
        if left:
            self.relay(left)
        elif not rest and not request.expects and self._may_repeat(request):
            self._record(request, request.content_length, request.echoed)
            self.content = NO_CONTENT
            self.request = NO_REQUEST
            self._began = 0.0
            self.state = PARKED
        else:
            self._complete(content, rest, 0)
            self._go_on(request, rest, 0)

    def on_same(self, content: Content, request: Request) -> None:
        """The parked Gathered has read the same header section again."""
        self.content, self.request, self.state = content, request, CONTENT
        if self.context.log is not None:
            self._began = self.context.loop.time()

    def on_another(self, data: bytes) -> None:
        """The parked Gathered has read something else."""
        self.last_activity = self.context.now
        self.state = IDLE
        attach(self)
        self._answer_all(data)

    # --- turns, and what is kept ---

    def postpone(self, data: bytes, position: int) -> None:
        """Keep what has been read and not been worked off for the connection's next turn."""
        self.keep_until_answered(data, position)
        self.account()
        if not self.stopped & BACKLOG:  # else it goes on when the client has taken what it is owed
            self.yield_turn()

    def keep_until_answered(self, data: bytes, position: int) -> None:
        """Keep what has been read behind a request until that has been answered."""
        if position > len(data) // 2:  # else a copy would take longer than what it frees is worth
            data, position = data[position:], 0
        self._pending = data, position

    def take_turn(self) -> None:
        self.go_on_reading(TURN)
        if self._pending is not None and not self.stopped & BACKLOG and self.state is not ANSWERING:
            (data, position), self._pending = self._pending, None
            self.last_activity = self.context.now
            self.account()
            if not self.transport.is_closing():
                _TAKES[self.state](self, data, position)
            self._heed_fin()

    def on_all_sent(self) -> None:
        if self._pending is not None:
            self.yield_turn()
        super().on_all_sent()

    def account(self) -> None:
        """Account for what has been read and waits."""
        kept = self.content.kept + (0 if self._pending is None else len(self._pending[0]))
        if kept != self.buffered:
            self.account_buffered(kept - self.buffered)

    def shed(self) -> None:
        super().shed()
        if self.state is not PARKED and not self.content.in_place:
            attach(self)

    def pause_writing(self) -> None:
        self._remember(NO_REQUEST)
        super().pause_writing()

    def resume_writing(self) -> None:
        if self.stopped & BACKLOG:
            self._owed_since = self.context.now  # the rest of a header section may have waited for us
        super().resume_writing()
        if self.write_queue is None:
            self.content.resumed()

    # --- what has been done, for metrics and the access log ---

    def _remember(self, request: Request) -> None:
        """Have the next request compared with this one, and count how often it was that of before."""
        hits, before = self._hits, self._memo
        self._memo = request
        if hits:
            self._hits = 0
            self.context.counts[_OK] += hits
            self.received += hits * before.size
            self.sent += hits * (len(self.site.prefix) + len(before.answer))
            if before.content_type:
                self.sent += hits * before.content_length

    def flush_counters(self) -> None:
        self._remember(self._memo)
        super().flush_counters()

    def _count(self, answered: int, served: list[Request]) -> None:
        """So many requests were answered with 200; those to be logged are taken out of served."""
        if answered:
            self.context.counts[_OK] += answered
            self._is_first = False
        if served:
            for each in served:
                self._log(each.head, 200, each.content_length, each.echoed)
            served.clear()

    def _record(self, request: Request, received: int, answered: int, status: int = 200) -> None:
        """A request was answered; received, answered: bytes of content."""
        self._is_first = False
        self.context.counts[counters.ANSWERED[status // 100]] += 1
        if self.context.log is not None:
            self._log(request.head, status, received, answered)

    def _record_cut_off(self, status: int) -> None:
        """The request being received won't be answered, or not completely."""
        if self.context.log is None:
            return
        if self.state is HEAD:
            self._log(bytes(self._partial_head or b""), status, 0, 0)
        elif self.content is not NO_CONTENT:
            sent = max(0, self.content.answered - self.unsent)
            self._log(self.request.head, status, self.content.received, sent)

    def _log(self, head: bytes, status: int, received: int, sent: int) -> None:
        if self.site.public:
            self.context.log_request(self, head, status, received, sent, self._began)

    # --- how it ends ---

    def _send_error(self, error: HttpError, head: bytes = b"", *, counter: int | None = None) -> None:
        """Send an error response and nothing after it; head: as much as there is of the header section in question.

        counter: where it is counted, if not by its status.
        """
        context, status = self.context, error.status
        no_body = head.startswith(b"HEAD ") or self.request.no_body
        answer = responses.error(self.site.start(status), error, no_body=no_body)
        self.send(answer)
        context.counts[counters.ANSWERED[status // 100]] += 1
        if counter is None:
            counter = counters.ERRORS.get(status)
        if counter is not None:
            context.counts[counter] += 1
        if context.log is not None:
            sent = 0 if no_body else len(answer) - answer.find(b"\r\n\r\n") - 4
            if not head and self.request is not NO_REQUEST:
                head = self.request.head
            self._log(head, status, self.content.received, sent)
        self._drop_all()

    def _cut_short(self, status: int) -> None:
        """An echo that has begun can't be completed: its client sees that by the missing last chunk."""
        self.context.counts[counters.ERRORS[status]] += 1
        self._record_cut_off(status)
        self._drop_all()

    def _drop_all(self) -> None:
        """Nothing is answered any more: after what is on its way goes our FIN, and what still comes is dropped."""
        self._stop_content()
        self.lingers = True
        if self._end():
            self.pause()

    def _end(self) -> bool:
        """close_when_sent(), and take nothing more."""
        self._remember(NO_REQUEST)
        self._partial_head = self._pending = None
        self.account_buffered(-self.buffered)
        if self.state is PARKED:
            attach(self)
        if self.state is not LINGERING:
            self.state = CLOSING
        return self.close_when_sent()

    def send_fin(self) -> None:
        self.state = LINGERING
        super().send_fin()

    def _drop(self, data: bytes, _: int = 0) -> None:
        pass

    def _cork(self) -> None:
        """Have the kernel hold back the last answer for the FIN that follows at once: one packet instead of two."""
        if self.transport.is_closing():
            return
        try:  # noqa: SIM105 - suppress() takes as long as the system call
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        except OSError:  # a unix socket
            pass

    def eof_received(self) -> bool:
        fin, content = self.state.fin, self.content
        if fin is Fin.LATER or self._pending is not None:
            self._client_fin = True
            return True
        if self.state is HEAD:
            why = "the client closed the connection before the header section was complete"
            self._send_error(HttpError(400, why), bytes(self._partial_head or b""))
        elif content is not NO_CONTENT and not content.begun:
            self._send_error(HttpError(400, "the client closed the connection before the content was complete"))
        self.lingers = False  # nothing more comes
        if fin is Fin.END:
            return self._end()
        content.stop()  # its request is logged when the connection is lost
        return self.close_when_sent()

    def _heed_fin(self) -> None:
        """Heed the client's FIN, if it has come, now that what came before it has been answered."""
        if self._client_fin and self in self.context.connections and not self.transport.is_closing():
            self.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._record_cut_off(_CUT_OFF)
        self._remember(NO_REQUEST)
        super().connection_lost(exc)
        self._stop_content()
        self._partial_head = self._pending = None
        self.state = CLOSED

    # --- once a sweep, and in a drain ---

    def sweep(self, now: float) -> None:
        config, deadline = self.context.config, self.state.deadline
        if self.write_queue is not None:
            if self.is_stalled(now, config.idle_timeout):
                self.context.counts[_IDLE] += 1
                self.abort()
        elif deadline is Deadline.FIN:
            if self.has_lingered(now):
                self.transport.close()
        elif deadline is Deadline.CONTENT:
            self._sweep_content(now)
        elif deadline is Deadline.NONE:
            self.last_activity = now  # from when the client does not read, its time begins
        elif deadline is Deadline.HEADER and 0 < config.header_timeout <= now - self._owed_since:
            self._header_overdue()
        elif self.idle():
            quiet = now - self.last_activity
            if quiet >= IDLE_GRACE and max(len(self._memo.head), len(self._last)) > _IDLE_MEMO_SIZE:
                self._remember(NO_REQUEST)
                self._last = NO_REQUEST.head
            if 0 < config.keep_alive_timeout <= quiet:
                self.context.counts[_KEEP_ALIVE] += 1
                self._end()
            elif self.context.closing_idle and quiet >= IDLE_GRACE:
                self._end()

    def _sweep_content(self, now: float) -> None:
        content, timeout = self.content, self.context.config.idle_timeout
        if content.is_waited_for():
            self.last_activity = now
        elif not self.is_stalled(now, timeout):
            return
        elif content.begun:
            self.context.counts[_IDLE] += 1
            self.abort()
        else:
            self._send_error(HttpError(408, f"no content came for {timeout:g} s (--idle-timeout)"), counter=_IDLE)

    def _header_overdue(self) -> None:
        if self.state is HEAD:
            timeout = self.context.config.header_timeout
            why = f"the header section was not complete within {timeout:g} s (--header-timeout)"
            self._send_error(HttpError(408, why), bytes(self._partial_head or b""), counter=_HEADER)
        else:
            self.context.counts[_HEADER] += 1
            self._end()  # nothing was asked: a connection made in advance

    def idle(self) -> bool:
        """Between two requests, or before the first."""
        return self.state.idle and self._pending is None and self.write_queue is None

    def unready(self) -> None:
        self._remember(NO_REQUEST)

    def drain(self) -> None:
        self._remember(NO_REQUEST)
        if self.request is not NO_REQUEST:
            self.request = self.request.as_last()
        if self.state is PARKED:
            attach(self)
            self.state = IDLE
        if self.state.idle:
            self._owed_since = math.inf  # from now on it is an idle connection like any other


_TAKES: dict[State, Callable[..., None]] = {
    NEW: HttpConnection._answer_all,
    BLANK: HttpConnection._take_head,
    IDLE: HttpConnection._answer_all,
    PARKED: HttpConnection._answer_all,
    HEAD: HttpConnection._take_head,
    CONTENT: HttpConnection._take_content,
    ANSWERING: HttpConnection._keep_for_later,
    CLOSING: HttpConnection._drop,
    LINGERING: HttpConnection._drop,
    CLOSED: HttpConnection._drop,
}
"""What takes the bytes that come next, in each state."""
