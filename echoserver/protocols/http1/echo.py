"""HTTP/1.1 and HTTP/1.0 echo: the request's content, or where it has none, its header section (RFC 9110, RFC 9112)."""

from time import monotonic

from echoserver.protocols.http1.connection import HttpConnection
from echoserver.protocols.http1.demand import OnDemand
from echoserver.protocols.http1.gather import Gather
from echoserver.protocols.http1.site import Site
from echoserver.transport.connection import FULL_READ, TURN_SECONDS
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.transport.readers import RelayContent, attach
from echoserver.transport.stream import BACKLOG, TURN
from echoserver.wire import request as messages
from echoserver.wire import response
from echoserver.wire.chunked import ChunkedDecoder, one_chunk
from echoserver.wire.request import NO_REQUEST, Request
from echoserver.wire.response import Refusal
from echoserver.wire.template import template_of

_COPIED = 4096  # content up to so many bytes is cheaper copied into one write than written from where it is
_IN_PARTS = 64 << 10  # content up to so many bytes is kept as it was read; more is received into one buffer
_MANY_PARTS = 64
_WINDOW = 16 << 10  # bytes of pipelined requests that are answered without a look at the clock where they repeat
_SPARED = 4096  # bytes of a header section that are kept even where the worker keeps all that it may


def _fields(request: Request, length: int | None) -> bytes:
    """The rest of the head of an echo, after prefix(); length None for chunked."""
    return response.fields(request.content_type, length, request.connection, request.extra)


class HttpEcho(HttpConnection):
    """One client's requests, answered in order.

    What it is doing (_receive): _answer_all (between two requests), _gather_head, _gather_content, _decode_chunks;
    _relayed_elsewhere and _gathered_elsewhere while a Relay or a Gather has the transport; _feed_demand while a request
    is answered on demand; _drop.

    What of a read is not worked off in this turn of the loop, or has to wait for an answer on demand, stays in
    _unread: until other connections have had their turn (TURN), or the client has taken what it is owed (BACKLOG).
    """

    __slots__ = (
        "_decoder", "_demand", "_fin", "_left", "_looked_at", "_parts", "_relayer", "_relaying", "_started",
        "_unread", "_unread_at", "parked",
    )  # fmt: skip

    _fin: bool
    """The client's FIN has been read, and is heeded when all that came before it has been answered."""
    _unread: bytes
    """What has been read and, from _unread_at on, not been worked off."""
    parked: bool
    """A Gather has the transport, between two requests."""

    def __init__(self, context: Context, origin: Origin, site: Site) -> None:
        super().__init__(context, origin, site)
        self._receive = HttpEcho._answer_all
        self._relayer: RelayContent | None = None
        self._demand: OnDemand | None = None
        self._unread = b""
        self._fin = self.parked = False

    # --- the requests ---

    def data_received(self, data: bytes) -> None:
        context = self.context
        self.last_activity = context.now
        request = self._request
        # the same header section as last time, with its content: no need to read it again
        if len(data) == request.size and data.startswith(request.head):
            content = request.head_size
            self._hits += 1
        elif (
            (template := request.template) is None
            or (content := template.fits(data, context.config.max_header)) < 0
            or len(data) - content != request.content_length
        ):
            self.received += len(data)
            self._receive(self, data)
            if len(data) >= FULL_READ:
                self.yield_turn()
            return
        else:
            self._hits += 1
            self.received += len(data) - request.size
        if request.content_length <= _COPIED:
            self.transport.write(self.site.prefix + request.answer + data[content:])
        else:
            self.send_list((self.site.prefix + request.answer, memoryview(data)[content:]))
            self.sent -= len(self.site.prefix) + len(request.answer) + request.content_length
        if context.log is not None:
            head = request.head if data.startswith(request.head) else data[:content]
            self._log(head, 200, request.content_length, request.echoed)

    def _answer_all(self, data: bytes, position: int = 0) -> None:  # noqa: PLR0912, PLR0915 - a call takes a tenth of
        # what a request does
        """Answer all whole requests in data, with one write, and begin with the one that is not whole."""
        context = self.context
        request = self._request
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
                        self._flush(out)
                        self._tell(answered, served)
                        self._remember(NO_REQUEST)
                        self._receive = HttpEcho._gather_head
                        self._gather_head(data[position:])
                        return
                    head = data[position : blank + 4]
                    try:
                        if len(head) > context.config.max_header:
                            raise messages.too_long(head, context.config.max_header)
                        request = self.reader.read_first(head) if request is NO_REQUEST else self.reader.read(head)
                    except Refusal as refusal:
                        self._flush(out)
                        self._tell(answered, served)
                        self._refuse(refusal, head)
                        return
                    self._since = None
                content = position + request.head_size
                if request.size >= 0 and position + request.size <= end:
                    position += request.size
                    answered += 1
                    if log is not None:
                        served.append(request)
                    out.append(self.site.prefix)
                    out.append(request.answer)
                    if position > content and not request.silent:
                        out.append(data[content:position])
                else:
                    until = position
                    if answered:
                        self._tell(answered, served)
                        answered = 0
                    position = self._answer_one(request, data, content, out)
                    if position < 0:
                        return
                if not request.keep_alive:
                    self._cork()
                    self._flush(out)
                    self._tell(answered, served)
                    self._drop_all()
                    return
            if position >= end:
                break
            now = monotonic()
            over = over or now + TURN_SECONDS
            if now >= over or self.stopped:
                break
            until = min(position + _WINDOW, end)
        self._flush(out)
        if answered:
            self._tell(answered, served)
        if request is not NO_REQUEST:  # not only empty lines
            self._expect_again(request)
        self._began = 0.0
        if position < end:
            self._leave(data, position)

    def _answer_one(self, request: Request, data: bytes, position: int, out: list[bytes]) -> int:
        """Answer a request that needs more than its prebuilt answer, or begin to; its content begins at position.

        Returns where the next request begins, or -1 where data does not hold all of this one; then all is flushed.
        """
        asked = request.controls is not None
        if request.upgrade and not asked:
            self._flush(out)
            self._upgrade(request, data[position:])
            return -1
        if request.page is not None:
            status, content_type, content, extra = self.site.page(request.page)
            start, silent = self.site.start(status) + extra + request.extra, request.silent
            if request.extra:  # OPTIONS asks for no more
                content = b""
            out.append(response.page(start, content, request.connection, silent=silent, content_type=content_type))
            self._done(request, 0, 0 if silent else len(content), status)
            if len(content) > _COPIED and not silent:  # whether the client takes it has to be known before the next
                self._flush(out)
            return position
        end = position + request.content_length
        if not asked and not request.chunked and end <= len(data):
            out.append(self.site.prefix + request.answer + (b"" if request.silent else data[position:end]))
            self._done(request, request.content_length, request.echoed)
            return end
        if (
            not asked
            and request.chunked
            and (whole := one_chunk(data, position))
            and self._is_within_limit(len(whole[0]))
        ):
            content, end = whole
            out += self.site.prefix, _fields(request, len(content))
            if not request.silent:
                out.append(content)
            self._done(request, len(content), 0 if request.silent else len(content))
            return end
        self._remember(NO_REQUEST)
        self._serving = request
        if request.controls is not None:
            self._flush(out)
            return self._begin_demand(OnDemand(self, request, request.controls), data, position)
        if request.expects and position == len(data):
            out.append(response.CONTINUE)
        if request.chunked:
            self._decoder = ChunkedDecoder()
            self._left = 0  # bytes of content so far
            self._started = False
            self._receive = HttpEcho._decode_chunks
            return self._take_chunks(data, position, out)
        self._flush(out)
        self._begin_content(data[position:])
        return -1

    def _upgrade(self, request: Request, rest: bytes) -> None:
        """Leave the connection to WebSocket, with what came behind the header section."""
        begin = self.site.upgrade
        try:
            if begin is None:
                raise Refusal(501, "WebSocket is not installed: expected pip install 'echoserver[websocket]'")
            following = begin(self.site, self.origin, request)
        except Refusal as refusal:
            self._refuse(refusal, request.head)
            return
        self.received -= len(rest)
        self.hand_over(following)
        if not self.transport.is_closing():
            following.take(rest)
        if self._fin and not self.transport.is_closing():
            following.eof_received()

    def _flush(self, out: list[bytes]) -> None:
        if out:
            self.send(b"".join(out))
            out.clear()

    # --- turns ---

    def _leave(self, data: bytes, position: int) -> None:
        """Keep what has been read and not been worked off for the connection's next turn."""
        self._keep(data, position)
        self.account()
        if not self.stopped & BACKLOG:  # else it goes on when the client has taken what it is owed
            self.yield_turn()

    def _keep(self, data: bytes, position: int) -> None:
        if position > len(data) // 2:  # else a copy would take longer than what it frees is worth
            data, position = data[position:], 0
        self._unread, self._unread_at = data, position

    def take_turn(self) -> None:
        self.go_on_reading(TURN)
        if self._unread and not self.stopped & BACKLOG and (self._demand is None or not self._demand.complete):
            data, self._unread = self._unread, b""
            self.last_activity = self.context.now
            self.account()
            if not self.transport.is_closing():
                self._receive(self, data, self._unread_at)
            self._heed_fin()

    def caught_up(self) -> None:
        if self._unread:
            self.yield_turn()
        super().caught_up()

    def account(self) -> None:
        """Account for what has been read and waits."""
        demand = self._demand
        kept = len(self._unread) + (demand.kept() if demand is not None else 0)
        if kept != self.held:
            self.hold(kept - self.held)

    def _heed_fin(self) -> None:
        """Heed the client's FIN, if it has come, now that what came before it has been answered."""
        if self._fin and self in self.context.connections and not self.transport.is_closing():
            self.eof_received()

    # --- a header section that comes in pieces ---

    def _gather_head(self, data: bytes, _: int = 0) -> None:
        context = self.context
        pending = self._pending
        if pending is None:
            pending = self._pending = bytearray()
            self._looked_at = 0
            self._since = context.now
            self._began = 0.0
        if context.log is not None and not self._began:
            self._began = context.loop.time()
        pending += data
        if pending.startswith(b"\r\n"):
            del pending[: messages.skip_empty_lines(pending, 0)]
        self.hold(len(pending) - self.held)
        if not pending or pending == b"\r":
            self._began = 0.0
            return
        if pending.find(b"\r\n\r\n", max(0, self._looked_at - 3)) < 0:
            try:
                messages.check_partial_head(pending, self._looked_at, context.config.max_header)
                if len(pending) > _SPARED and context.owed >= context.config.buffer_total:
                    raise Refusal(503, "the server's buffers are full (--buffer-total)")
            except Refusal as refusal:
                self._refuse(refusal, bytes(pending))
            self._looked_at = len(pending)
            return
        self._pending = None
        self.hold(-self.held)
        self._receive = HttpEcho._answer_all
        self._answer_all(bytes(pending))

    # --- content of a known length ---

    def _begin_content(self, first: bytes) -> None:
        request, context = self._serving, self.context
        length = request.content_length
        self._left = length
        self._parts: list[bytes] = []
        self._receive = HttpEcho._gather_content
        self._relaying = self.owed + length > context.config.buffer_limit
        if length > _IN_PARTS and not self._relaying and not context.under_pressure and not request.silent:
            try:
                Gather(self, request).start(first)
            except OSError:
                self._relaying = True  # the system has no room for a buffer of this size
            else:
                self._receive = HttpEcho._gathered_elsewhere
                return
        if first:
            self._gather_content(first)

    def _gather_content(self, data: bytes, _: int = 0) -> None:
        request, rest = self._serving, b""
        if len(data) > self._left:
            data, rest = data[: self._left], data[self._left :]
        self._left -= len(data)
        if not request.silent:
            self.hold(len(data))
            self._parts.append(data)
            if len(self._parts) > _MANY_PARTS:
                self._parts = [b"".join(self._parts)]
        if not self._left:
            self._send_parts()
            self._next(request, rest)
        elif (self._relaying or self.context.under_pressure) and not request.silent:
            self._send_parts()
            self._relay()

    def _send_parts(self) -> None:
        """Send the head and what has been gathered of the content."""
        self.hold(-self.held)
        parts, self._parts = self._parts, []
        head = self.site.prefix + self._serving.answer
        self.send_list((head, *parts))

    def on_whole(self, buffer: memoryview, place: int, end: int, rest: bytes) -> None:
        """A Gather has all of the content, or as much as may be kept, from place to end in a buffer; rest came behind.

        The answer's head goes before it; the buffer is done with when both have been sent.
        """
        request, context = self._serving, self.context
        self.last_activity = context.now
        head = self.site.prefix + request.answer
        start = place - len(head)
        buffer[start:place] = head
        if self.held:
            self.hold(-self.held)
        self.send_pooled(buffer, start, end)
        self._left = request.content_length - (end - place)
        if self._left:
            self._relay()
        elif not rest and not request.expects and self._may_repeat(request):
            self._content_done(request)
            self._serving = NO_REQUEST
            self._began = 0.0
            self._receive = HttpEcho._answer_all  # the Gather stays: the next request may be the same
            self.parked = True
        else:
            attach(self)
            self._next(request, rest)

    def again(self, request: Request) -> None:
        """A Gather that stayed has got the same header section again."""
        self._receive = HttpEcho._gathered_elsewhere
        self._serving = request
        self.parked = False
        if self.context.log is not None:
            self._began = self.context.loop.time()

    def another(self, data: bytes) -> None:
        """A Gather that stayed has got something else."""
        self.parked = False
        attach(self)
        self._receive(self, data)

    def _relay(self) -> None:
        """Move the rest of the content on as it comes."""
        self._receive = HttpEcho._relayed_elsewhere
        self._relayer = RelayContent(self, self._left, self._relayed)
        self.transport.set_protocol(self._relayer)

    def _relayed(self) -> None:
        self._relayer = None
        attach(self)
        request = self._serving
        if request.keep_alive:
            self._next(request, b"")
        else:
            self._content_done(request)
            self._drop_all()

    def _relayed_elsewhere(self, data: bytes, _: int = 0) -> None:
        raise AssertionError("a Relay has the transport")

    def _gathered_elsewhere(self, data: bytes, _: int = 0) -> None:
        raise AssertionError("a Gather has the transport")

    # --- chunked content ---

    def _decode_chunks(self, data: bytes, position: int = 0) -> None:
        request, out = self._serving, list[bytes]()
        end = self._take_chunks(data, position, out)
        if end >= 0:
            self._flush(out)
            self._go_on(request, data, end)

    def _is_within_limit(self, length: int) -> bool:
        """Whether chunked content of so many bytes is not too long."""
        most = self.context.config.max_body
        return not most or length <= most

    def _take_chunks(self, data: bytes, position: int, out: list[bytes]) -> int:
        """Echo the chunked content in data; returns where it ended, or -1: then all is flushed."""
        request, context, decoder = self._serving, self.context, self._decoder
        try:
            content, position = decoder.feed(data, position)
            if not self._is_within_limit(self._left + len(content)):
                raise Refusal(413, f"the content has more than {context.config.max_body} bytes (--max-body)")
            self._left += len(content)
        except Refusal as refusal:
            self._flush(out)
            if self._started:
                self._cut_short(refusal.status)
            else:
                self._refuse(refusal, request.head)
            return -1
        complete = decoder.complete
        if not self._started and (content or complete):
            self._started = not complete
            length = len(content) if complete else None
            out += self.site.prefix, _fields(request, length)
        if content and not request.silent:
            out.append(response.chunk(content) if self._started else content)
        if not complete:
            self._flush(out)
            if position < len(data):
                self._leave(data, position)
            return -1
        if self._started and not request.silent:
            out.append(response.LAST_CHUNK)
        self._done(request, self._left, 0 if request.silent else self._left)
        self._serving = NO_REQUEST
        self._receive = HttpEcho._answer_all
        return position

    # --- what is asked for besides an echo ---

    def _begin_demand(self, demand: OnDemand, data: bytes, position: int) -> int:
        """Returns where the next request begins, if this one has been answered, else -1."""
        self._demand = demand
        self._receive = HttpEcho._feed_demand
        if self.context.owed >= self.context.config.buffer_total and demand.keeps():
            self._refuse(Refusal(503, "the server's buffers are full (--buffer-total)"), self._serving.head)
            return -1
        if self._serving.expects and position == len(data):
            demand.heed_expectation()
        end = self._take_for_demand(demand, data, position)
        if end >= 0 and not self._demand_done(demand, data, end):
            return -1
        return end

    def _feed_demand(self, data: bytes, position: int = 0) -> None:
        demand, request = self._demand, self._serving
        if demand is None:
            return
        if demand.complete:
            self._unread = self._unread[self._unread_at :] + data if self._unread else data
            self._unread_at = 0
            demand.regulate(self.behind_request())
            return
        end = self._take_for_demand(demand, data, position)
        if end >= 0 and self._demand_done(demand, data, end):
            self._go_on(request, data, end)

    def _take_for_demand(self, demand: OnDemand, data: bytes, position: int) -> int:
        """Returns where the request ended in data if it has been answered; else -1, and what came behind it is kept."""
        try:
            position = demand.feed(data, position)
        except Refusal as refusal:
            if demand.started:
                self._cut_short(refusal.status)
            else:
                self._refuse(refusal, self._serving.head)
            return -1
        if demand.done:
            return position
        rest = len(data) - position
        if rest and demand.complete:
            self._keep(data, position)
        elif rest:
            self._leave(data, position)
        demand.regulate(self.behind_request())
        return -1

    def behind_request(self) -> int:
        """Bytes that came behind the request that is being answered on demand."""
        complete = self._demand is not None and self._demand.complete
        return len(self._unread) - self._unread_at if self._unread and complete else 0

    def answered(self, demand: OnDemand) -> None:
        """A request has been answered on demand, not in the turn in which it came."""
        request, data, position = self._serving, self._unread, self._unread_at if self._unread else 0
        self._unread = b""
        if self._demand_done(demand, data, position):
            self._go_on(request, data, position)
        self._heed_fin()

    def _demand_done(self, demand: OnDemand, data: bytes, end: int) -> bool:
        """Whether the connection goes on with requests; data from end on is what came behind this one."""
        request = self._serving
        demand.stop()
        self._demand = None
        self.account()
        self._serving = NO_REQUEST
        self._receive = HttpEcho._answer_all
        if demand.upgrades and self._fin:
            self.finish()
            return False
        if demand.upgrades:
            self._upgrade(request, data[end:])
            return False
        self._done(request, demand.received, demand.sent, demand.status)
        if demand.plan.abort:
            self.reset()
        elif demand.closes:
            self._drop_all()
        else:
            return True
        return False

    def serving(self) -> Request:
        """The request whose content is received, or that is being answered on demand."""
        return self._serving

    # --- how it goes on ---

    def shed(self) -> None:
        super().shed()
        if self._receive not in (HttpEcho._relayed_elsewhere, HttpEcho._gathered_elsewhere) and not self.parked:
            attach(self)

    def _next(self, request: Request, rest: bytes) -> None:
        """A request with content of a known length has been answered; rest is what came behind it."""
        self._content_done(request)
        self._serving = NO_REQUEST
        self._receive = HttpEcho._answer_all
        self._go_on(request, rest, 0)

    def _content_done(self, request: Request) -> None:
        self._done(request, request.content_length, request.echoed)

    def _go_on(self, request: Request, data: bytes, position: int) -> None:
        """A request has been answered; data from position on is what came behind it."""
        self._began = 0.0
        if not request.keep_alive:
            self._drop_all()
            return
        self._expect_again(request)
        if position < len(data):
            self._answer_all(data, position)

    def _expect_again(self, request: Request) -> None:
        """The next request may be the same as this one, and be answered at once."""
        before = self._request
        if request is before:
            return
        if self.behind is not None or request.size >= FULL_READ or not self._may_repeat(request):
            self._remember(NO_REQUEST)
            return
        self._remember(request)
        if before is not NO_REQUEST and self.site.template_budget > 0:
            self.site.template_budget -= 1
            request.template = template_of(request, before)

    def _may_repeat(self, request: Request) -> bool:
        return (
            request.keep_alive
            and request.head_size <= messages.REMEMBERED_SIZE
            and not (request.silent and request.content_length)
            and not request.probe
            and not self.context.draining
        )

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._demand is not None and self.behind is None:
            self._demand.resumed()

    def eof_received(self) -> bool:
        demand = self._demand
        if self._unread or (demand is not None and demand.complete):
            self._fin = True
            return True
        if demand is not None and demand.started:
            demand.stop()
        return super().eof_received()

    def sweep(self, now: float) -> None:
        if self._demand is not None and self.behind is None and self._demand.takes_its_time():
            self.last_activity = now
        else:
            super().sweep(now)

    def _drop_all(self) -> None:
        if self._demand is not None:
            self._demand.stop()
            self._demand = None
        self._unread = b""
        self._parts = []
        super()._drop_all()

    def idle(self) -> bool:
        return not self._unread and super().idle()

    def answering(self) -> bool:
        if self._demand is not None:
            return self._demand.started
        return self._relayer is not None or (self._receive is HttpEcho._decode_chunks and self._started)

    def content_so_far(self) -> int:
        if self._serving is NO_REQUEST:
            return 0
        if self._demand is not None:
            return self._demand.received
        if self._receive is HttpEcho._decode_chunks:
            return self._left
        if self._receive is HttpEcho._gathered_elsewhere:
            return self.held
        return self._serving.content_length - (self._left if self._relayer is None else self._relayer.left)

    def content_answered(self) -> int:
        if self._demand is not None:
            return self._demand.sent
        return self.content_so_far() if self.answering() and not self._serving.silent else 0

    def drain(self) -> None:
        if self.parked:
            self.parked = False
            attach(self)
        super().drain()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._demand is not None:
            self._demand.stop()
        self._relayer = self._demand = None
        self._unread = b""
        self._parts = []
