"""One request's answer as its controls want it: late, slow, another, cut off."""

import asyncio
import socket
import time
from time import monotonic
from typing import Any, Protocol

from echoserver.answers import controls
from echoserver.answers.description import Content, describe, moment
from echoserver.answers.pace import TICK, Pace
from echoserver.answers.pattern import pattern
from echoserver.config.values import unix_path
from echoserver.observe.access_log import NO_ANSWER, client_of
from echoserver.protocols.http1.site import Site
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.transport.stream import DEMAND
from echoserver.wire import response
from echoserver.wire.chunked import ChunkedDecoder
from echoserver.wire.fifo import Fifo
from echoserver.wire.request import Request, echo_of_head
from echoserver.wire.response import Refusal

_PIECE = 64 << 10  # bytes of content that are written at a time
_TURN = 1 << 20  # bytes that are written before others have their turn
_REST = 64 << 10  # bytes behind the request that are read while its answer is on its way
_EMPTY = frozenset({204, 205, 304})  # RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5
_SANDBOX = b"Content-Security-Policy: sandbox\r\n"
"""Goes with fields that a query asks for: who sends others a link shall not have a script run in this server's name."""


class Owner(Protocol):
    """What an answer on demand asks of its connection.

    account: what is kept has changed. answered: the answer is complete. behind_request: bytes that came behind the
    request. serving: the request, which a drain may have made the last one.
    """

    behind: bytearray | None
    context: Context
    origin: Origin
    site: Site
    stopped: int
    transport: asyncio.Transport

    def account(self) -> None: ...
    def answered(self, demand: "OnDemand") -> None: ...
    def behind_request(self) -> int: ...
    def go_on_reading(self, why: int) -> None: ...
    def send(self, data: bytes | bytearray | memoryview) -> None: ...
    def serving(self) -> Request: ...
    def stop_reading(self, why: int) -> None: ...


class OnDemand:
    """Takes a request's content, waits as long as is asked for, and answers. The connection lends it its transport.

    Content that is echoed is kept until all of it has come, or it is too much to keep: then the answer begins with what
    there is, and goes on as the rest comes, which is not read faster than the answer is sent.
    """

    __slots__ = (
        "_asked", "_chunked", "_connection", "_content", "_declined", "_decoder", "_due", "_echo", "_kept", "_left",
        "_length", "_pace", "_request", "_timer", "_when", "closes", "complete", "done", "plan", "received", "sent",
        "started", "status", "upgrades",
    )  # fmt: skip

    closes: bool
    """The connection is closed after the answer."""
    complete: bool
    """All of the request has come."""
    done: bool
    """All of the answer has been sent, or there is none."""
    received: int
    """Bytes of content so far."""
    sent: int
    """Bytes of content that have been answered."""
    started: bool
    """The answer has begun."""
    status: int
    """That of the answer, once it has begun."""
    upgrades: bool
    """There is no answer: the connection becomes a WebSocket's."""
    _kept: Fifo
    """Content that waits to be sent."""
    _content: Content | None
    """Content that is to be described."""
    _length: int | None
    """Bytes of content of the answer; None: they end when the request's do."""
    _due: float
    """When the answer may begin (monotonic())."""

    def __init__(self, connection: Owner, request: Request, asked: controls.Controls) -> None:
        self._connection = connection
        self._request = request
        self._asked = asked
        self._when = time.time()
        self.plan = asked.choose()
        self._echo = asked.echo or (controls.BODY if request.content_type else controls.HEAD)
        self._decoder = ChunkedDecoder() if request.chunked else None
        self._left = request.content_length
        self._kept = Fifo()
        described = self._echo == controls.JSON and asked.size is None and request.content_type
        self._content = Content() if described else None
        self._length: int | None = None
        self._pace: Pace | None = None
        self._timer: asyncio.Handle | None = None
        self._due = 0.0
        self._chunked = False
        self._declined = False  # the content is not wanted, and may come all the same
        self.closes = self.complete = self.done = self.started = self.upgrades = False
        self.received = self.sent = self.status = 0

    # --- the request's content ---

    def heed_expectation(self) -> None:
        """The client waits with its content: ask for it, unless it is to be answered by an error whatever it is.

        RFC 9110 section 10.1.1: a final status in place of the 100, after which the connection is closed.
        """
        if not self.plan.abort and (self.plan.status or 200) < 400:
            self._connection.send(response.CONTINUE)
            return
        self._declined = True
        self._left, self._decoder = 0, None
        if self._echo == controls.BODY:
            self._echo = controls.NONE

    def feed(self, data: bytes, position: int) -> int:
        """Take content from data, and answer if that was all; returns how far data was taken. Raises Refusal.

        Not to its end: the request is complete, or there is more to decode than should be done at a time.
        """
        if self._decoder is not None:
            content, end = self._decoder.feed(data, position)
            complete = self._decoder.complete
            most = self._connection.context.config.max_body
            if 0 < most < self.received + len(content):
                raise Refusal(413, f"the content has more than {most} bytes (--max-body)")
        else:
            end = min(position + self._left, len(data))
            content = data[position:end]
            self._left -= len(content)
            complete = not self._left
        self.received += len(content)
        if self._content is not None:
            self._content.add(content)
        elif self._is_echoed():
            self._kept.add(content)
        self.complete = complete
        if self.started:
            self._send()
        elif complete and self._timer is None:
            self._wait()
        return end

    def keeps(self) -> bool:
        """Whether content is to be kept."""
        return bool(self._left or self._decoder is not None) and self._is_echoed()

    def _is_echoed(self) -> bool:
        unsent = self.plan.abort or self._asked.size is not None or self._request.silent
        return self._echo == controls.BODY and not unsent and self.plan.status not in _EMPTY

    def kept(self) -> int:
        """Bytes that wait to be sent or described."""
        return len(self._kept) + (0 if self._content is None else self._content.kept)

    def regulate(self, behind: int) -> None:
        """Account for what is kept, and read on or not; behind: bytes that came behind the request.

        Where it is too much, or comes too early, nothing more is read. Content that can't be kept until all of it has
        come is answered as it comes: whatever stops the reading goes away by itself.
        """
        connection = self._connection
        context, total = connection.context, connection.context.config.buffer_total
        connection.account()
        if self._content is not None and context.owed >= total:
            self._content.forget()
            connection.account()
        if not self.complete and self._kept and (len(self._kept) >= context.share or context.under_pressure):
            self._answer_as_it_comes()
        too_much = (
            len(self._kept) >= context.share
            or behind > (0 if context.under_pressure else _REST)
            or (context.owed >= total and (self._kept or behind))
        )
        if too_much:
            connection.stop_reading(DEMAND)
        else:
            connection.go_on_reading(DEMAND)

    def _answer_as_it_comes(self) -> None:
        """Begin to answer before all has come, if not already."""
        if self.started or self._timer is not None:
            return
        if (self.plan.status or 200) >= 400:  # who sees that does not send the rest, and waits for all of an answer
            self._echo = controls.NONE
            self._kept.clear()
        else:
            self._wait()
        self._connection.account()

    def resumed(self) -> None:
        """The kernel has taken everything."""
        if self.started and self._timer is None:  # not within resume_writing(): the connection may end, see caught_up()
            self._timer = self._connection.context.loop.call_soon(self._later)

    # --- the answer ---

    def _wait(self) -> None:
        if self.plan.delay:
            self._due = monotonic() + self.plan.delay
            self._sleep(self.plan.delay)
        else:
            self._answer()

    def _sleep(self, seconds: float) -> None:
        self._timer = self._connection.context.loop.call_later(seconds, self._later)

    def _later(self) -> None:
        """It is time to begin, or to go on."""
        self._timer = None
        if self._connection.transport.is_closing():
            return
        if self.started:
            self._send()
        elif (early := self._due - monotonic()) > 0:  # uvloop (0.23.0) counts from the beginning of its turn
            self._sleep(max(early, TICK))
            return
        else:
            self._answer()
        if self.done:
            self._connection.answered(self)
        else:
            self.regulate(self._connection.behind_request())

    def _answer(self) -> None:
        """Begin the answer."""
        self.started = True
        connection, asked, request = self._connection, self._asked, self._request
        if self.plan.abort:
            self.done, self.status = True, NO_ANSWER
            return
        if request.upgrade and self.plan.status is None:
            self.done = self.upgrades = True
            return
        nothing = self._echo == controls.NONE and asked.size is None
        self.status = self.plan.status or (204 if nothing else 200)
        content_type = self._make_content()
        self.closes = self.plan.close or self._declined or not connection.serving().keep_alive
        self._chunked = self._length is None or (asked.chunked and self.status not in _EMPTY)
        head = self._head(content_type)
        if request.silent or self.status in _EMPTY:
            self._length = 0
            self._chunked = False
            self._kept.clear()
            connection.send(head)
        elif not asked.rate and self.complete and asked.size is None and len(self._kept) <= _PIECE:
            content = b"".join(iter(lambda: self._kept.take(_PIECE), b""))
            self.sent = self._length = len(content)
            framed = (response.chunk(content) if content else b"") + response.LAST_CHUNK if self._chunked else content
            self._chunked = False
            connection.send(head + framed)
        else:
            connection.send(head)
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
            self._length = self.received if self.complete else None if request.chunked else request.content_length
            return request.content_type or b"application/octet-stream"
        if self._echo == controls.NONE:
            self._length = 0
            return b"text/plain"
        if self._echo == controls.JSON:
            head = b"GET" + request.head[4:] if request.silent else echo_of_head(request.head)[1]
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
            if connection.behind is not None or connection.transport.is_closing():
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
            if self._chunked:
                connection.send(response.LAST_CHUNK)
            self.done = True

    def _available(self) -> int:
        if self._asked.size is not None and self._length:
            return self._length - self.sent
        return len(self._kept)

    def _send_piece(self, size: int) -> int:
        """Send at most so many bytes of the content; returns how many."""
        if self._asked.size is not None:
            piece: bytes | bytearray = pattern(size, self.sent)
        else:
            piece = self._kept.take(size)
        self.sent += len(piece)
        self._connection.send(response.chunk(bytes(piece)) if self._chunked else piece)
        return len(piece)

    # --- its end ---

    def takes_its_time(self) -> bool:
        """Whether it is not the client that is waited for."""
        return self.complete or bool(self._connection.stopped & DEMAND) or self._timer is not None

    def stop(self) -> None:
        """The connection has no use for it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._connection.go_on_reading(DEMAND)


def facts(connection: Owner, when: float) -> dict[str, Any]:
    """What is known of a connection, and of the server, for a description of a request that came at a time."""
    context, transport = connection.context, connection.transport
    said: dict[str, Any] = {
        "client": _address(connection.origin.peer or client_of(transport)),
        "server": _address(transport.get_extra_info("sockname")),
        "tls": _tls(transport.get_extra_info("ssl_object")),
        "proxy": None,
        "worker": context.number,
        "host": socket.gethostname(),
        "received_at": moment(when),
    }
    proxied = connection.origin.preamble
    if proxied is not None:
        said["proxy"] = {
            "version": proxied.version,
            "source": _address(proxied.source),
            "destination": _address(proxied.destination),
        }
    if connection.site.kubernetes:
        said["kubernetes"] = connection.site.kubernetes
    return said


def _address(address: Any) -> dict[str, Any] | None:
    """An IP address and port, or the path of a unix socket, or the @name of an abstract one."""
    if isinstance(address, tuple) and address[0] != "unix:":
        return {"address": address[0], "port": address[1]}
    return None if address is None else {"path": unix_path(address) if isinstance(address, str | bytes) else ""}


def _tls(ssl_object: Any) -> dict[str, Any] | None:
    if ssl_object is None:
        return None
    from echoserver.layers import tls_context as tls  # noqa: PLC0415 - few want it

    certificate, cipher = ssl_object.getpeercert(), ssl_object.cipher()
    return {
        "version": ssl_object.version(),
        "cipher": cipher and cipher[0],
        "server_name": tls.server_name(ssl_object),
        "alpn": ssl_object.selected_alpn_protocol(),
        "client_subject": tls.subject(certificate).decode() if certificate else None,
    }
