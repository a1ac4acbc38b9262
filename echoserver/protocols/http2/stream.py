"""One stream of HTTP/2: a request whose answer takes more than its connection can give at once (RFC 9113 section 5).

Content that is echoed goes back as it comes, as far as the client lets it; what can't go yet waits here, and the client
may send as much again only when it has gone.
"""

import asyncio
import math
import sys
from collections.abc import Mapping
from typing import Protocol

from echoserver.answers.controls import Caps, Controls
from echoserver.observe.access_log import NO_ANSWER
from echoserver.protocols.http1.demand import Demand
from echoserver.protocols.http1.site import Site
from echoserver.protocols.http2.grpc import GrpcCall
from echoserver.protocols.http2.site import block_of
from echoserver.protocols.http2.tunnel import Tunnel
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.wire import hpack, http2_frames, response
from echoserver.wire.fifo import Fifo
from echoserver.wire.http2_reader import Head
from echoserver.wire.request import NO_REQUEST, Request
from echoserver.wire.response import HttpError

_CONTINUE = hpack.status(b"100")
_DROPPED = 64 << 10  # octets of content behind an answer that are read and dropped
_LARGE = 16 << 10  # octets of content from which on it is read another way
_GRANTS = 8  # WINDOW_UPDATE that a client may send for each DATA
_SHORT = 1 << 10  # bytes of a header section up to which it is not worth accounting for
_CUT_OFF = 499  # what the access log says of a request whose client went away


class Carrier(Protocol):
    """What a stream asks of its connection.

    window: octets that the client takes, of all streams together; grants: how often it may say that it takes more;
    stream_window: octets that it may send on a stream. takes_more: whether content may be sent now. is_full: whether as
    much is kept as may be. put: a frame. prefix: the block that a 200 response begins with. credit: content of a stream
    has gone, the client may send as much again. keep: so many bytes more wait, or fewer. wake: a stream has something
    that waits. expect_much: there is a stream with large content. on_closed: a stream has ended.
    """

    context: Context
    origin: Origin
    site: Site
    transport: asyncio.Transport
    window: int
    grants: int

    @property
    def stream_window(self) -> int: ...
    @property
    def takes_more(self) -> bool: ...
    @property
    def is_full(self) -> bool: ...

    def put(self, data: bytes) -> None: ...
    def prefix(self) -> bytes: ...
    def credit(self, stream: "Stream", size: int) -> None: ...
    def keep(self, size: int) -> None: ...
    def wake(self, stream: "Stream") -> None: ...
    def expect_much(self, stream: "Stream") -> None: ...
    def on_closed(self, stream: "Stream") -> None: ...
    def close_gracefully(self) -> None: ...


class Stream:
    """A stream that is open, or half-closed.

    window: octets that the client takes on it. uncredited: octets of content that have come and that the client may not
    send again yet; owed: those that it may, and has not been told so. left: octets of content that the request still
    has, -1 for any; complete: all of it has come. status: that of the response, 0 before it; refused: it is an error of
    its request's. cut_off: it was not completed. waiting: it is among those that have something to send.
    """

    __slots__ = (
        "_call", "_carrier", "_demand", "_ends", "_held", "_kept", "_queue", "_sent_end", "_trailers", "_tunnel",
        "answered", "began", "closed", "complete", "cut_off", "head", "id", "is_large", "last_activity", "left",
        "origin", "owed", "received", "refused", "request", "status", "stopped", "uncredited", "waiting", "window",
    )  # fmt: skip

    def __init__(self, carrier: Carrier, number: int, head: Head, window: int, began: float) -> None:
        self._carrier = carrier
        self.id = number
        self.head = head
        self.window = window
        self.began = began
        self.origin = carrier.origin
        self.last_activity = carrier.context.now
        self.request = head.request or NO_REQUEST
        self._demand: Demand | None = None
        self._tunnel: Tunnel | None = None
        self._call: GrpcCall | None = None
        self._queue = Fifo()
        self._trailers = b""
        self.left = head.length
        self.is_large = False
        self._kept = 0
        self._held = len(head.text) * (4 if head.is_call else 1) if len(head.text) > _SHORT else 0
        self._ends = self.complete = self.closed = self.cut_off = self.refused = self.waiting = False
        self._sent_end = False
        self.received = self.answered = self.uncredited = self.owed = self.status = self.stopped = 0

    # --- the request ---

    def begin(self, *, ends: bool) -> None:
        """Its header section has come; ends: all of it."""
        head, request, carrier = self.head, self.head.request, self._carrier
        self.complete = ends
        if head.error is not None:
            self.refuse(head.error)
        elif head.is_call:
            self._call = GrpcCall(self)
            self._call.begin()
            if ends:
                self._call.take(b"")
        elif request is None:
            if ends:
                self._answer(head.block, head.text if head.echo else b"")
        elif request.page is not None:
            whole, _, self.status = carrier.site.answer(request, request.page)
            self._send_text(whole)
        elif request.upgrade and request.controls is None:
            self._begin_tunnel(request)
        elif request.controls is not None:
            self._begin_on_demand(request, request.controls, ends=ends)
        else:
            if request.expects and not ends:
                self.send_continue()
            if ends:
                self._answer_whole(request)
        if self._held and not self.closed:
            self.account()

    def _begin_on_demand(self, request: Request, controls: Controls, *, ends: bool) -> None:
        self._demand = Demand(self, request, controls)
        if request.expects and not ends:
            self._demand.heed_expectation()
        if ends or self._demand.declined or request.upgrade:
            self._demand.complete = True
            self._demanded(self._demand, done=self._demand.take(b""))

    def _begin_tunnel(self, request: Request) -> None:
        """Leave the stream to WebSocket (RFC 8441)."""
        begin = self.site.upgrade
        try:
            if self.context.at_capacity():  # it counts as a connection
                raise HttpError(503, "too many connections")
            if begin is None:
                raise HttpError(501, "WebSocket is not installed: expected pip install 'echoserver[websocket]'")
            following = begin(self.site, self.origin, request)
        except HttpError as error:
            self.refuse(error)
            return
        self._tunnel = Tunnel(self)
        self._tunnel.begin(following)
        if self.complete:
            self._tunnel.feed(b"", ends=True)

    def _answer_whole(self, request: Request) -> None:
        """Answer what is neither ordinary nor on demand: HEAD, TRACE, OPTIONS and the like."""
        self.status = 200
        self._send_text(self._carrier.site.start(200) + request.answer)

    def take(self, content: bytes, *, ends: bool, frame: bytes = b"") -> None:
        """Content has come; frame: the DATA that it came in, where it can go back as it is."""
        self.received += len(content)
        self.last_activity = self._carrier.context.now
        self.complete = ends
        if self._is_taken(content, ends=ends) or not self._is_as_declared(len(content), ends=ends):
            return
        if not self.status:
            self._begin_echo(ends=ends)
        if self.request.no_body:
            self._carrier.credit(self, len(content))
            if ends:
                self._sent_all()
        else:
            self._send(content, ends=ends, frame=frame)

    def _is_taken(self, content: bytes, *, ends: bool) -> bool:
        """Give content to what there is besides an echo; returns whether there is any such thing."""
        if self.lingers:
            self._drop(len(content))
        elif self._ends and self._tunnel is None:  # the answer is known, and waits
            self._carrier.credit(self, len(content))
        elif self._call is not None:
            if self._is_as_declared(len(content), ends=ends):
                self._call.take(content)
        elif self._tunnel is not None:
            self._tunnel.feed(content, ends=ends)
            self.account()
            if ends and self._sent_end:
                self._close()
        elif self.request.upgrade:  # RFC 8441 section 4: the client has to wait for the response
            self.reset(http2_frames.PROTOCOL_ERROR)
        elif self._demand is not None:
            if self._is_as_declared(len(content), ends=ends):
                self._demand_more(self._demand, content, ends=ends)
        else:
            return False
        return True

    def _is_as_declared(self, size: int, *, ends: bool) -> bool:
        """Whether so much more content may come; else the stream has been reset, or its request refused."""
        if self.left >= 0:
            self.left -= size
            if self.left < 0 or (ends and self.left):
                self.reset(http2_frames.PROTOCOL_ERROR)
                return False
            return True
        most = self._carrier.context.config.max_body
        if 0 < most < self.received:
            self.refuse(HttpError(413, f"the content has more than {most} bytes (--max-body)"))
            return False
        return True

    def _demand_more(self, demand: Demand, content: bytes, *, ends: bool) -> None:
        demand.complete = ends
        self._demanded(demand, done=demand.take(content))
        config = self.context.config
        if (
            self._carrier.is_full
            and demand.kept > config.buffer_limit // config.max_streams
            and not demand.begun
            and not demand.is_waited_for()
        ):  # others may wait likewise, and none of them go on
            self.refuse(HttpError(503, "the connection's buffers are full (--buffer-limit)"))

    def room(self) -> int:
        """Octets of content that may go back just as they come; 0: they have to be looked at."""
        if (
            self.complete
            or self._demand is not None
            or self._queue
            or self.request.no_body
            or self.request.upgrade
            or self._call is not None
            or self._sent_end
            or self._carrier.context.config.max_body
        ):
            return 0
        return max(0, min(self.window, self._carrier.stream_window - self.owed))

    def pass_on(self, count: int, size: int, *, ends: bool) -> None:
        """So many frames with so much content go back; ends: that is all of it."""
        self.received += size
        self.complete = ends
        if not self.status:
            self._begin_echo(ends=ends)
        if self.left >= 0:
            self.left -= size
        self.answered += size
        self._carrier.grants += count * _GRANTS
        self.window -= size
        self.owed += size
        if ends:
            self._sent_all()

    def take_trailers(self, block: bytes) -> None:
        """Fields behind the content have come, and nothing more does: they go back behind the echo."""
        if block and self._carrier.is_full:
            self.reset(http2_frames.ENHANCE_YOUR_CALM)
            return
        if not self.request.no_body and self._demand is None:
            self._trailers = block
            self._held += len(block)
        self.take(b"", ends=True)

    def _begin_echo(self, *, ends: bool) -> None:
        head, request = self.head, self.head.request
        if not ends and (head.length < 0 or head.length > _LARGE):
            self._carrier.expect_much(self)
        length = self.received if ends else None if head.length < 0 else head.length
        self.status = 200
        if request is None:
            block = head.block
            if head.length < 0 and length is not None:
                block += hpack.literal(b"content-length", b"%d" % length)
            block = self._carrier.prefix() + block
        else:
            fields = response.fields(request.content_type, length, b"", request.extra)
            block = block_of(self._carrier.site.start(200) + fields)
        self._carrier.put(http2_frames.headers(self.id, block, end_stream=request is not None and request.no_body))

    # --- the response ---

    def _answer(self, block: bytes, content: bytes) -> None:
        """A 200 response."""
        self.status = 200
        self._respond(self._carrier.prefix() + block, content)

    def _send_text(self, whole: bytes) -> None:
        """A whole response, as HTTP/1.1 has it."""
        head, _, content = whole.partition(b"\r\n\r\n")
        self._respond(block_of(head), content)

    def _respond(self, block: bytes, content: bytes) -> None:
        """A whole response."""
        self._carrier.put(http2_frames.headers(self.id, block, end_stream=not content))
        if content:
            self._send(content, ends=True)
        else:
            self._sent_all()

    def refuse(self, error: HttpError) -> None:
        """Answer with an error, if nothing has been answered, and take nothing more."""
        if self._call is not None:
            self._call.refuse(error)
            return
        if self._demand is not None:
            self._demand.stop()
            self._demand = None
            self.account()
        if self.status:
            self.reset(http2_frames.CANCEL)
            return
        self.status, self.refused = error.status, True
        no_body = self.request.no_body or self.head.text.startswith(b"HEAD ")
        self._send_text(response.error(self._carrier.site.start(error.status), error, no_body=no_body))

    def _send(self, content: bytes | bytearray, *, ends: bool, frame: bytes = b"") -> None:
        """Send content, now or when the client takes it."""
        if self.closed:
            return
        carrier, size = self._carrier, len(content)
        self.answered += size
        if (
            not self._queue
            and carrier.takes_more
            and size <= self.window
            and size <= carrier.window
            and not (ends and self._trailers)
        ):
            if frame:
                carrier.grants += _GRANTS
                self.window -= size
                carrier.window -= size
                carrier.put(frame)
                carrier.credit(self, size)
            else:
                self._put(content, ends=ends)
            if ends:
                self._sent_all()
            return
        context = carrier.context
        if context.used >= context.config.buffer_total:
            self.refuse(HttpError(503, "the server's buffers are full (--buffer-total)"))
            return
        self._ends = ends
        self._queue.add(content)
        self.account()
        carrier.wake(self)

    def _put(self, content: bytes | bytearray, *, ends: bool) -> None:
        carrier, size = self._carrier, len(content)
        carrier.grants += _GRANTS
        self.window -= size
        carrier.window -= size
        flags = http2_frames.END_STREAM if ends else 0
        if size <= http2_frames.MAX_SIZE:
            carrier.put(http2_frames.begin(http2_frames.DATA, flags, self.id, size) + content)
        else:
            for start in range(0, size, http2_frames.MAX_SIZE):
                piece = content[start : start + http2_frames.MAX_SIZE]
                last = flags if start + len(piece) == size else 0
                carrier.put(http2_frames.begin(http2_frames.DATA, last, self.id, len(piece)) + piece)
        if self._demand is None and self._tunnel is None and self._call is None:
            carrier.credit(self, size)

    @property
    def is_call(self) -> bool:
        """Whether it is a call of gRPC."""
        return self._call is not None

    @property
    def is_tunnel(self) -> bool:
        """Whether another protocol is spoken on it."""
        return self._tunnel is not None

    @property
    def unsent(self) -> int:
        """Bytes of the response that wait."""
        return len(self._queue)

    def may_send(self) -> bool:
        """Whether something waits that the client would take now."""
        if self.closed or self._sent_end:
            return False
        return min(self.window, self._carrier.window) > 0 if self._queue else self._ends

    def is_stuck(self) -> bool:
        """Whether it waits for what does not come any more, after the client's FIN."""
        if self._call is not None and self._call.is_watch:
            return True
        begun = self._demand is not None and self._demand.begun
        return min(self.window, self._carrier.window) <= 0 and (bool(self._queue) or begun)

    def send_some(self) -> int:
        """Send of what waits as much as goes into a frame; returns how much of the windows it took."""
        size = min(len(self._queue), self.window, self._carrier.window, http2_frames.MAX_SIZE)
        piece = self._queue.take(size)
        last = self._ends and not self._queue
        if piece or (last and not self._trailers):
            self._put(piece, ends=last and not self._trailers)
        self.account()
        self.last_activity = self._carrier.context.now
        if last:
            if self._trailers:
                self._carrier.put(http2_frames.headers(self.id, self._trailers, end_stream=True))
            self._sent_all()
        return len(piece)

    def resumed(self) -> None:
        """The client takes more."""
        if self._tunnel is not None and not self._queue:
            self._tunnel.drained()
        if self._demand is not None and not self.behind:
            self._demand.resumed()

    def _sent_all(self) -> None:
        """Our side is closed; what the client still wants to send is not wanted (RFC 9113 section 8.1)."""
        if self.closed:
            return
        self._sent_end = True
        if self.head.malformed:  # section 8.1.1
            self._carrier.put(http2_frames.rst_stream(self.id, http2_frames.PROTOCOL_ERROR))
        elif not self.complete:
            tunnel = self._tunnel
            if (not tunnel.is_closing()) if tunnel is not None else self.left <= _DROPPED:
                return  # it is half-closed
            self._carrier.put(http2_frames.rst_stream(self.id, http2_frames.NO_ERROR))
        if self._demand is not None and self._demand.outcome.close:
            self._carrier.close_gracefully()
        self._close()

    @property
    def lingers(self) -> bool:
        """Whether all is answered, and the client still sends: reset at once, some do not read the answer."""
        return self._sent_end and self._tunnel is None

    def end_lingering(self) -> None:
        """It has had its time, or sends too much (RFC 9113 section 8.1)."""
        if not self.closed:
            self._carrier.put(http2_frames.rst_stream(self.id, http2_frames.NO_ERROR))
            self._close()

    def _drop(self, size: int) -> None:
        self.left = max(self.left, 0) + size
        self._carrier.credit(self, size)
        if self.complete:
            self._close()
        elif self.left > _DROPPED:
            self.end_lingering()

    # --- what a call of gRPC asks for ---

    @property
    def caps(self) -> Caps | None:
        """How far controls may go; None: they are off."""
        config = self.context.config
        return Caps(config.max_delay or math.inf, config.max_size or sys.maxsize) if config.controls else None

    @property
    def is_ready(self) -> bool:
        """What /readyz says."""
        return self.site.ready

    @property
    def is_begun(self) -> bool:
        """Whether the response has begun."""
        return self.status > 0

    def begin_response(self, block: bytes, *, ends: bool) -> None:
        """A 200 response with fields of its own; ends: it is all of it."""
        self.status = 200
        self._carrier.put(http2_frames.headers(self.id, self._carrier.prefix() + block, end_stream=ends))
        if ends:
            self._sent_all()

    def end_with(self, trailers: bytes) -> None:
        """Trailers, behind what waits."""
        self._trailers = trailers
        if self._queue:
            self._ends = True
        else:
            self._carrier.put(http2_frames.headers(self.id, trailers, end_stream=True))
            self._sent_all()

    def unready(self) -> None:
        """The server is not ready any more."""
        if self._call is not None:
            self._call.unready()

    def drain(self) -> None:
        """A drain has begun."""
        if self._call is not None:
            self._call.drain()

    # --- what a tunnel asks for ---

    def send(self, content: bytes) -> None:
        """Send content, now or when the client takes it."""
        self._send(content, ends=False)

    def end(self) -> None:
        """End our side, and the stream where the tunnel is closed."""
        if self._sent_end:
            self._sent_all()
        elif not self._ends:
            self._end()

    def cancel(self) -> None:
        """Reset the stream."""
        self.reset(http2_frames.CANCEL)

    def taken(self, size: int) -> None:
        """So much content has been delivered."""
        if self.closed:
            return
        self.account()
        self._carrier.credit(self, size)

    # --- what an answer on demand asks for ---

    @property
    def context(self) -> Context:
        return self._carrier.context

    @property
    def site(self) -> Site:
        return self._carrier.site

    @property
    def transport(self) -> asyncio.Transport:
        return self._carrier.transport

    @property
    def behind(self) -> bool:
        """Whether the client does not take all that it is sent."""
        return (
            self.closed
            or bool(self._queue)
            or not self._carrier.takes_more
            or min(self.window, self._carrier.window) <= 0
        )

    def account(self) -> None:
        """What is kept has changed."""
        if self.closed:
            return
        if self._tunnel is not None:  # what waits to be sent is accounted for by what is spoken there
            kept = self._tunnel.pending
        else:
            kept = self._held + len(self._queue) + (0 if self._demand is None else self._demand.kept)
            if self._call is not None:
                kept += self._call.kept
        self._carrier.keep(kept - self._kept)
        self._kept = kept

    def facts(self) -> Mapping[str, object]:
        """What only HTTP/2 has, for a description."""
        return {"stream": self.id, "pseudo_fields": [[n.decode(), v.decode("latin-1")] for n, v in self.head.pseudo]}

    def pending_bytes(self) -> int:
        """Nothing is read behind a request."""
        return 0

    def go_on_reading(self, why: int) -> None:
        """The client may send more."""
        self.stopped &= ~why
        if self.stopped or not self.uncredited or self.closed:
            return
        if not self._carrier.is_full or self._demand is None or not self._demand.kept:
            self._carrier.credit(self, self.uncredited)

    def stop_reading(self, why: int) -> None:
        """Let the client send no more than it already may."""
        self.stopped |= why

    def send_continue(self) -> None:
        """Ask for the content that the client waits with."""
        self._carrier.put(http2_frames.headers(self.id, _CONTINUE))

    def send_head(self, head: bytes) -> None:
        """A response begins."""
        self.status = int(head[9:12])
        self._carrier.put(http2_frames.headers(self.id, block_of(head)))

    def send_content(self, content: bytes | bytearray, *, chunked: bool) -> None:
        """A piece of its content, not empty."""
        self._send(content, ends=False)

    def send_end(self, *, chunked: bool) -> None:
        """It ends."""
        self._end()

    def send_whole(self, head: bytes, content: bytes, *, chunked: bool) -> None:
        """A whole response."""
        self.status = int(head[9:12])
        self._send_text(head + content)

    def _end(self) -> None:
        if self.closed:
            return
        if self._queue:
            self._ends = True
        else:
            self._carrier.put(http2_frames.frame(http2_frames.DATA, http2_frames.END_STREAM, self.id))
            self._sent_all()

    def on_answered(self) -> None:
        """The answer on demand is complete."""
        if self._demand is not None:
            self._demanded(self._demand, done=True)

    def _demanded(self, demand: Demand, *, done: bool) -> None:
        if not done:
            demand.regulate()
            return
        if demand.switches:
            self._demand = None
            self._begin_tunnel(self.request)
            return
        outcome = demand.outcome
        if outcome.abort:
            self.status = NO_ANSWER
            self.reset(http2_frames.INTERNAL_ERROR)
        if outcome.close:
            self._carrier.close_gracefully()

    # --- its end ---

    def reset(self, code: int) -> None:
        """Send RST_STREAM, where it is open, and forget it."""
        if self.closed:
            return
        self.cut_off = not self.refused
        self._carrier.put(http2_frames.rst_stream(self.id, code))
        self._close()

    def on_reset(self) -> None:
        """The client has reset it, or is gone."""
        if not self.closed:
            self.complete = self.cut_off = True
            self.status = _CUT_OFF
            self._close()

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._demand is not None:
            self._demand.stop()
            self._demand = None
        self._queue.clear()
        if self._call is not None:
            self._call.stop()
        if self._tunnel is not None:
            self._tunnel.on_closed(cut_off=self.cut_off)
        self._carrier.keep(-self._kept)
        self._kept = 0
        self._carrier.on_closed(self)

    def is_waited_for(self) -> bool:
        """Whether the server, not the client, has to act next."""
        if self._tunnel is not None:  # it has deadlines of its own
            return True
        if self._call is not None:
            return self._call.is_waited_for()
        return self._demand is not None and self._demand.is_waited_for()
