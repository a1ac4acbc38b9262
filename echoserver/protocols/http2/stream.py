"""One stream of HTTP/2: a request whose answer takes more than its connection can give at once (RFC 9113 section 5).

Content that is echoed goes back as it comes, as far as the client lets it; what can't go yet waits here, and the client
may send as much again only when it has gone.
"""

import asyncio
from typing import Protocol

from echoserver.protocols.http1.site import Site
from echoserver.protocols.http2.grpc import GrpcCall
from echoserver.protocols.http2.on_demand import OnDemand
from echoserver.protocols.http2.site import block_of
from echoserver.protocols.http2.taker import ECHO, Taker
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
    has, -1 for any; complete: all of it has come. taker: what takes it. status: that of the response, 0 before it;
    refused: it is an error of its request's. cut_off: it was not completed. waiting: it is among those that have
    something to send.
    """

    __slots__ = (
        "_carrier", "_ends", "_held", "_kept", "_queue", "_sent_end", "_trailers", "answered", "began", "closed",
        "complete", "cut_off", "head", "id", "is_large", "last_activity", "left", "origin", "owed", "received",
        "refused", "request", "status", "taker", "uncredited", "waiting", "window",
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
        self.taker: Taker = ECHO
        self._queue = Fifo()
        self._trailers = b""
        self.left = head.length
        self.is_large = False
        self._kept = 0
        self._held = len(head.text) * (4 if head.is_call else 1) if len(head.text) > _SHORT else 0
        self._ends = self.complete = self.closed = self.cut_off = self.refused = self.waiting = False
        self._sent_end = False
        self.received = self.answered = self.uncredited = self.owed = self.status = 0

    # --- the request ---

    def begin(self, *, ends: bool) -> None:
        """Its header section has come; ends: all of it."""
        head, request, carrier = self.head, self.head.request, self._carrier
        self.complete = ends
        if head.error is not None:
            self.refuse(head.error)
        elif head.is_call:
            self.taker = call = GrpcCall(self)
            call.begin(ends=ends)
        elif request is None:
            if ends:
                self._answer(head.block, head.text if head.echo else b"")
        elif request.page is not None:
            self.respond_as(carrier.site.answer(request, request.page)[0])
        elif request.upgrade and request.controls is None:
            self.begin_tunnel(request)
        elif request.controls is not None:
            self.taker = answer = OnDemand(self, request, request.controls)
            answer.begin(ends=ends)
        else:
            if request.expects and not ends:
                self.send_continue()
            if ends:
                self._answer_whole(request)
        if self._held and not self.closed:
            self.account()

    def begin_tunnel(self, request: Request) -> None:
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
        self.taker = tunnel = Tunnel(self)
        tunnel.begin(following, ends=self.complete)

    def _answer_whole(self, request: Request) -> None:
        """Answer what is neither ordinary nor on demand: HEAD, TRACE, OPTIONS and the like."""
        self.respond_as(self._carrier.site.start(200) + request.answer)

    def take(self, content: bytes, *, ends: bool, frame: bytes = b"") -> None:
        """Content has come; frame: the DATA that it came in, where it can go back as it is."""
        self.received += len(content)
        self.last_activity = self._carrier.context.now
        self.complete = ends
        if self.lingers:
            self._drop(len(content))
            return
        if self._ends and not self.taker.is_a_connection:  # the answer is known, and waits
            self._carrier.credit(self, len(content))
            return
        if not self._is_as_declared(len(content), ends=ends):
            return
        if self.taker is not ECHO:
            self.taker.take(content, ends=ends)
            if ends and self._sent_end and self.taker.is_a_connection:
                self._close()
            return
        if not self.status:
            self._begin_echo(ends=ends)
        if self.request.no_body:
            self._carrier.credit(self, len(content))
            if ends:
                self._sent_all()
        else:
            self._send(content, ends=ends, frame=frame)

    def _is_as_declared(self, size: int, *, ends: bool) -> bool:
        """Whether so much more content may come; else the stream has been reset, or its request refused."""
        if self.left >= 0:
            self.left -= size
            if self.left < 0 or (ends and self.left):
                self.reset(http2_frames.PROTOCOL_ERROR)
                return False
            return True
        most = self._carrier.context.config.max_body
        if 0 < most < self.received and not self.taker.is_a_connection:
            self.refuse(HttpError(413, f"the content has more than {most} bytes (--max-body)"))
            return False
        return True

    def room(self) -> int:
        """Octets of content that may go back just as they come; 0: they have to be looked at."""
        if (
            self.complete
            or self.taker is not ECHO
            or self._queue
            or self.request.no_body
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
        if not self.request.no_body and self.taker is ECHO:
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

    def respond_as(self, whole: bytes) -> None:
        """A whole response, as HTTP/1.1 has it."""
        self.status = int(whole[9:12])
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
        if self.taker.refuse(error):
            return
        self.taker = ECHO
        self.account()
        if self.status:
            self.reset(http2_frames.CANCEL)
            return
        self.refused = True
        no_body = self.request.no_body or self.head.text.startswith(b"HEAD ")
        self.respond_as(response.error(self._carrier.site.start(error.status), error, no_body=no_body))

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
        if self.taker is ECHO:
            carrier.credit(self, size)

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
        if self.taker.is_endless:
            return True
        return min(self.window, self._carrier.window) <= 0 and (bool(self._queue) or self.taker.begun)

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

    def _sent_all(self) -> None:
        """Our side is closed; what the client still wants to send is not wanted (RFC 9113 section 8.1)."""
        if self.closed:
            return
        self._sent_end = True
        if self.head.malformed:  # section 8.1.1
            self._carrier.put(http2_frames.rst_stream(self.id, http2_frames.PROTOCOL_ERROR))
        elif not self.complete:
            if self.taker.reads_on if self.taker.is_a_connection else self.left <= _DROPPED:
                return  # it is half-closed
            self._carrier.put(http2_frames.rst_stream(self.id, http2_frames.NO_ERROR))
        self._close()

    @property
    def lingers(self) -> bool:
        """Whether all is answered, and the client still sends: reset at once, some do not read the answer."""
        return self._sent_end and not self.taker.is_a_connection

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

    # --- what its taker asks for ---

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
    def is_full(self) -> bool:
        """Whether as much is kept for the connection's streams as may be."""
        return self._carrier.is_full

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
        kept = self._held + self.taker.kept
        if not self.taker.is_a_connection:  # else it accounts for what waits to be sent
            kept += len(self._queue)
        self._carrier.keep(kept - self._kept)
        self._kept = kept

    def begin_as(self, head: bytes) -> None:
        """A response begins, as HTTP/1.1 has it."""
        self.status = int(head[9:12])
        self._carrier.put(http2_frames.headers(self.id, block_of(head)))

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

    def send(self, content: bytes | bytearray) -> None:
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

    def credit_all(self) -> None:
        """The client may send as much as it has sent."""
        if self.uncredited and not self.closed:
            self._carrier.credit(self, self.uncredited)

    def close_connection(self) -> None:
        """Take no more streams, and end when those under way have."""
        self._carrier.close_gracefully()

    def send_continue(self) -> None:
        """Ask for the content that the client waits with."""
        self._carrier.put(http2_frames.headers(self.id, _CONTINUE))

    def _end(self) -> None:
        if self.closed:
            return
        if self._queue:
            self._ends = True
        else:
            self._carrier.put(http2_frames.frame(http2_frames.DATA, http2_frames.END_STREAM, self.id))
            self._sent_all()

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
        self._queue.clear()
        self.taker.on_closed(cut_off=self.cut_off)
        self._carrier.keep(-self._kept)
        self._kept = 0
        self._carrier.on_closed(self)
