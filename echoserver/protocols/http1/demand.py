"""One request's answer as its controls want it: late, slow, another, cut off."""

import asyncio
import time
from time import monotonic

from echoserver.answers import controls
from echoserver.answers.description import Content as Described
from echoserver.answers.description import describe
from echoserver.answers.pace import TICK, Pace
from echoserver.answers.pattern import pattern
from echoserver.observe.access_log import NO_ANSWER
from echoserver.protocols.http1.content import Content, Exchange, Owner, check_length
from echoserver.protocols.http1.facts import facts
from echoserver.transport.stream import DEMAND
from echoserver.wire import response
from echoserver.wire.chunked import ChunkedDecoder
from echoserver.wire.fifo import Fifo
from echoserver.wire.request import Request, echo_of_head

_PIECE = 64 << 10  # bytes of content that are written at a time
_TURN = 1 << 20  # bytes that are written before others have their turn
_REST = 64 << 10  # bytes behind the request that are read while its answer is on its way
_EMPTY = frozenset({204, 205, 304})  # RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5
_SANDBOX = b"Content-Security-Policy: sandbox\r\n"
"""Goes with fields that a query asks for: who sends others a link shall not have a script run in this server's name."""


class Demand(Content):
    """Takes a request's content, waits as long as is asked for, and answers. The connection lends it its transport.

    Content that is echoed is kept until all of it has come, or it is too much to keep: then the answer begins with what
    there is, and goes on as the rest comes, which is not read faster than the answer is sent.
    """

    __slots__ = (
        "_asked",
        "_chunked",
        "_connection",
        "_content",
        "_done",
        "_due",
        "_echo",
        "_ended",
        "_kept",
        "_length",
        "_pace",
        "_received",
        "_request",
        "_sent",
        "_timer",
        "_when",
        "begun",
        "closes",
        "complete",
        "declined",
        "outcome",
        "status",
        "switches",
    )  # fmt: skip

    declined: bool
    """The content is not wanted, and may come all the same."""
    outcome: controls.Outcome
    """What was chosen for this request."""
    _done: bool
    """All of the answer has been sent, or there is none."""
    _ended: bool
    """All of the answer has been sent; more of the content may still come, and is not wanted."""
    _kept: Fifo
    """Content that waits to be sent."""
    _content: Described | None
    """Content that is to be described."""
    _length: int | None
    """Bytes of content of the answer; None: they end when the request's do."""
    _due: float
    """When the answer may begin (monotonic())."""

    def __init__(self, connection: Exchange, request: Request, asked: controls.Controls) -> None:
        self._connection = connection
        self._request = request
        self._asked = asked
        self._when = time.time()
        self.outcome = asked.choose()
        self._echo = asked.echo or (controls.BODY if request.content_type else controls.HEAD)
        self._kept = Fifo()
        described = self._echo == controls.JSON and asked.size is None and request.content_type
        self._content = Described() if described else None
        self._length: int | None = None
        self._pace: Pace | None = None
        self._timer: asyncio.Handle | None = None
        self._due = 0.0
        self._chunked = False
        self.declined = False
        self.begun = self.closes = self.complete = self.switches = self._done = self._ended = False
        self._received = self._sent = self.status = 0

    @property
    def received(self) -> int:
        return self._received

    @property
    def answered(self) -> int:
        return self._sent

    @property
    def kept(self) -> int:
        return len(self._kept) + (0 if self._content is None else self._content.kept)

    @property
    def resets(self) -> bool:
        return self.outcome.abort

    # --- the request's content ---

    def heed_expectation(self) -> None:
        """The client waits with its content: ask for it, unless it is to be answered by an error whatever it is.

        RFC 9110 section 10.1.1: a final status in place of the 100, after which the connection is closed.
        """
        if not self.outcome.abort and (self.outcome.status or 200) < 400:
            self._connection.send_continue()
            return
        self.declined = True
        if self._echo == controls.BODY:
            self._echo = controls.NONE

    def take(self, content: bytes) -> bool:
        """More content has come, the last of it where it is complete; returns whether it has been answered."""
        self._received += len(content)
        if self._content is not None:
            self._content.add(content)
        elif self._is_echoed():
            self._kept.add(content)
        if self.begun:
            self._send()
        elif self.complete and self._timer is None:
            self._wait()
        return self._done

    def keeps(self) -> bool:
        """Whether content is to be kept."""
        return (self._request.chunked or self._request.content_length > 0) and self._is_echoed()

    def _is_echoed(self) -> bool:
        unsent = self.outcome.abort or self._asked.size is not None or self._request.no_body
        return self._echo == controls.BODY and not unsent and self.outcome.status not in _EMPTY

    def regulate(self) -> None:
        """Account for what is kept, and read on or not.

        Where it is too much, or comes too early, nothing more is read. Content that can't be kept until all of it has
        come is answered as it comes: whatever stops the reading goes away by itself.
        """
        connection = self._connection
        context, total = connection.context, connection.context.config.buffer_total
        behind = connection.pending_bytes() if self.complete else 0  # the next request
        connection.account()
        if self._content is not None and context.used >= total:
            self._content.forget()
            connection.account()
        if not self.complete and self._kept and (len(self._kept) >= context.share or context.under_pressure):
            self._answer_as_it_comes()
        too_much = (
            len(self._kept) >= context.share
            or behind > (0 if context.under_pressure else _REST)
            or (context.used >= total and (self._kept or behind))
        )
        if too_much:
            connection.stop_reading(DEMAND)
        else:
            connection.go_on_reading(DEMAND)

    def _answer_as_it_comes(self) -> None:
        """Begin to answer before all has come, if not already."""
        if self.begun or self._timer is not None:
            return
        if (self.outcome.status or 200) >= 400:  # who sees that does not send the rest, and waits for all of an answer
            self._echo = controls.NONE
            self._kept.clear()
        else:
            self._wait()
        self._connection.account()

    def resumed(self) -> None:
        if self.begun and self._timer is None:  # not within resume_writing(): the connection may end, see on_all_sent()
            self._timer = self._connection.context.loop.call_soon(self._later)

    # --- the answer ---

    def _wait(self) -> None:
        if self.outcome.delay:
            self._due = monotonic() + self.outcome.delay
            self._sleep(self.outcome.delay)
        else:
            self._answer()

    def _sleep(self, seconds: float) -> None:
        self._timer = self._connection.context.loop.call_later(seconds, self._later)

    def _later(self) -> None:
        """It is time to begin, or to go on."""
        self._timer = None
        if self._connection.transport.is_closing():
            return
        if self.begun:
            self._send()
        elif (early := self._due - monotonic()) > 0:  # uvloop (0.23.0) counts from the beginning of its turn
            self._sleep(max(early, TICK))
            return
        else:
            self._answer()
        if self._done:
            self._connection.on_answered()
        else:
            self.regulate()

    def _answer(self) -> None:
        """Begin the answer."""
        self.begun = True
        connection, asked, request = self._connection, self._asked, self._request
        if self.outcome.abort:
            self._done, self.status = True, NO_ANSWER
            return
        if request.upgrade and self.outcome.status is None:
            self._done = self.switches = True
            return
        nothing = self._echo == controls.NONE and asked.size is None
        self.status = self.outcome.status or (204 if nothing else 200)
        content_type = self._make_content()
        self.closes = self.outcome.close or self.declined or not connection.request.keep_alive
        self._chunked = self._length is None or (asked.chunked and self.status not in _EMPTY)
        head = self._head(content_type)
        if request.no_body or self.status in _EMPTY:
            self._length = 0
            self._chunked = False
            self._kept.clear()
            connection.send_head(head)
            connection.send_end(chunked=False)
            self._ended = True
        elif not asked.rate and self.complete and asked.size is None and len(self._kept) <= _PIECE:
            content = b"".join(iter(lambda: self._kept.take(_PIECE), b""))
            self._sent = self._length = len(content)
            connection.send_whole(head, content, chunked=self._chunked)
            self._ended = True
        else:
            connection.send_head(head)
            if asked.rate:
                self._pace = Pace(asked.rate, monotonic())
        self._send()

    def _make_content(self) -> bytes:
        """Decide about the answer's content and its length; returns its type."""
        request = self._request
        if self._asked.size is not None:
            self._length = self._asked.size
            return b"text/plain"
        if self._echo == controls.BODY:
            self._length = self._received if self.complete else None if request.chunked else request.content_length
            return request.content_type or b"application/octet-stream"
        if self._echo == controls.NONE:
            self._length = 0
            return b"text/plain"
        if self._echo == controls.JSON:
            head = b"GET" + request.head[4:] if request.no_body else echo_of_head(request.head)[1]
            content_type = b"application/json"
            made = describe(head, self._content, facts(self._connection, self._when))
            self._content = None
        else:
            content_type, made = echo_of_head(request.head)
        self._kept.clear()
        self._kept.add(made)
        self._length = len(made)
        return content_type

    def _head(self, content_type: bytes) -> bytes:
        request, asked = self._request, self._asked
        option = b"close" if self.closes else request.connection
        start = self._connection.site.start(self.status)
        if self.status in _EMPTY:
            head = start + response.no_content(self.status, option, request.extra)
        else:
            length = None if self._chunked else self._length
            head = start + response.fields(content_type, length, option, request.extra)
        if asked.replaced:
            head = response.without(head, asked.replaced)[:-2] + asked.fields + _SANDBOX + b"\r\n"
        elif asked.fields:
            head = head[:-2] + asked.fields + b"\r\n"
        return head

    def _send(self) -> None:
        """Send as much of the content as there is, as the kernel takes and as the rate allows."""
        if self._timer is not None:  # not yet
            return
        connection = self._connection
        turn = _TURN
        while size := self._available():
            if connection.behind or connection.transport.is_closing():
                return
            if self._pace is not None:
                now = monotonic()
                wait = self._pace.next(now, size)
                if wait:
                    self._sleep(wait)
                    return
                self._pace.spent(self._send_piece(min(size, self._pace.allowed(now), _PIECE)))
            elif turn > 0:
                turn -= self._send_piece(min(size, _PIECE))
            else:
                self._timer = connection.context.loop.call_soon(self._later)
                return
        if self.complete:
            if not self._ended:
                self._ended = True
                connection.send_end(chunked=self._chunked)
            self._done = True

    def _available(self) -> int:
        if self._asked.size is not None and self._length:
            return self._length - self._sent
        return len(self._kept)

    def _send_piece(self, size: int) -> int:
        """Send at most so many bytes of the content; returns how many."""
        if self._asked.size is not None:
            piece: bytes | bytearray = pattern(size, self._sent)
        else:
            piece = self._kept.take(size)
        self._sent += len(piece)
        self._connection.send_content(piece, chunked=self._chunked)
        return len(piece)

    # --- its end ---

    def is_waited_for(self) -> bool:
        return self.complete or bool(self._connection.stopped & DEMAND) or self._timer is not None

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._connection.go_on_reading(DEMAND)


class FedDemand(Demand):
    """The same for HTTP/1.1, where content is found among the bytes of its connection."""

    __slots__ = ("_decoder", "_left", "_owner")

    def __init__(self, connection: Owner, request: Request, asked: controls.Controls) -> None:
        super().__init__(connection, request, asked)
        self._owner = connection
        self._decoder = ChunkedDecoder() if request.chunked else None
        self._left = request.content_length

    def heed_expectation(self) -> None:
        super().heed_expectation()
        if self.declined:
            self._left, self._decoder = 0, None

    def feed(self, data: bytes, position: int, out: list[bytes]) -> int:
        """Take content from data, and answer if that was all; out is left alone."""
        connection = self._owner
        if self._decoder is not None:
            content, position = self._decoder.feed(data, position)
            self.complete = self._decoder.complete
            check_length(self._received + len(content), connection.context.config.max_body)
        else:
            end = min(position + self._left, len(data))
            content, position = data[position:end], end
            self._left -= len(content)
            self.complete = not self._left
        if self.take(content):
            return position
        if position < len(data):
            (connection.keep_until_answered if self.complete else connection.postpone)(data, position)
        self.regulate()
        return -1
