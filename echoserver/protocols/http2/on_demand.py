"""An answer on demand on a stream: what it asks of a connection of HTTP/1.1 the stream has to offer too."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from echoserver.answers.controls import Controls
from echoserver.observe.access_log import NO_ANSWER
from echoserver.protocols.http1.demand import Demand
from echoserver.protocols.http1.site import Site
from echoserver.protocols.http2.taker import Taker
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.wire.http2_frames import INTERNAL_ERROR, PROTOCOL_ERROR
from echoserver.wire.http2_reader import Head
from echoserver.wire.request import Request
from echoserver.wire.response import HttpError


class DemandStream(Protocol):
    """What it asks of its stream.

    behind: the client does not take all that it is sent. is_full: as much is kept for the connection as may be.
    begin_as: a response begins, as HTTP/1.1 has it; respond_as: all of one. send: content, now or when the client takes
    it; end: nothing more of it. credit_all: the client may send as much as it has sent. begin_tunnel: leave the stream
    to what the request asks for. close_connection: when all streams have ended.
    """

    id: int
    head: Head
    origin: Origin
    request: Request
    status: int

    @property
    def behind(self) -> bool: ...
    @property
    def context(self) -> Context: ...
    @property
    def is_full(self) -> bool: ...
    @property
    def site(self) -> Site: ...
    @property
    def transport(self) -> asyncio.Transport: ...
    def account(self) -> None: ...
    def begin_as(self, head: bytes) -> None: ...
    def begin_tunnel(self, request: Request) -> None: ...
    def close_connection(self) -> None: ...
    def credit_all(self) -> None: ...
    def end(self) -> None: ...
    def refuse(self, error: HttpError) -> None: ...
    def reset(self, code: int) -> None: ...
    def respond_as(self, whole: bytes) -> None: ...
    def send(self, content: bytes | bytearray) -> None: ...
    def send_continue(self) -> None: ...


class OnDemand(Taker):
    """One answer."""

    __slots__ = ("_demand", "_ended", "_stream", "origin", "stopped")

    def __init__(self, stream: DemandStream, request: Request, controls: Controls) -> None:
        self._stream = stream
        self._ended = False
        self.origin = stream.origin
        self.stopped = 0
        self._demand = Demand(self, request, controls)

    def begin(self, *, ends: bool) -> None:
        """The request has come; ends: all of it."""
        demand, request = self._demand, self._stream.request
        if request.expects and not ends:
            demand.heed_expectation()
        if ends or demand.declined or request.upgrade:
            demand.complete = True
            self._go_on(done=demand.take(b""))

    def _go_on(self, *, done: bool) -> None:
        if self._ended:
            return
        demand, stream = self._demand, self._stream
        if not done:
            demand.regulate()
        elif demand.switches:
            stream.begin_tunnel(stream.request)
        elif demand.outcome.abort:
            stream.status = NO_ANSWER
            stream.reset(INTERNAL_ERROR)

    # --- what the stream asks for ---

    @property
    def begun(self) -> bool:
        return self._demand.begun

    @property
    def kept(self) -> int:
        return self._demand.kept

    def take(self, content: bytes, *, ends: bool) -> None:
        demand, stream = self._demand, self._stream
        if stream.request.upgrade:  # RFC 8441 section 4: the client has to wait for the response
            stream.reset(PROTOCOL_ERROR)
            return
        demand.complete = ends
        self._go_on(done=demand.take(content))
        config = stream.context.config
        if (
            stream.is_full
            and demand.kept > config.buffer_limit // config.max_streams
            and not demand.begun
            and not demand.is_waited_for()
        ):  # others may wait likewise, and none of them go on
            stream.refuse(HttpError(503, "the connection's buffers are full (--buffer-limit)"))

    def resumed(self) -> None:
        if not self._stream.behind:
            self._demand.resumed()

    def is_waited_for(self) -> bool:
        return self._demand.is_waited_for()

    def refuse(self, error: HttpError) -> bool:
        self._ended = True
        self._demand.stop()
        return False

    def on_closed(self, *, cut_off: bool) -> None:
        self._ended = True
        self._demand.stop()
        if self._demand.outcome.close and not cut_off:
            self._stream.close_connection()

    # --- what the answer asks for ---

    @property
    def behind(self) -> bool:
        return self._stream.behind

    @property
    def context(self) -> Context:
        return self._stream.context

    @property
    def request(self) -> Request:
        return self._stream.request

    @property
    def site(self) -> Site:
        return self._stream.site

    @property
    def transport(self) -> asyncio.Transport:
        return self._stream.transport

    def account(self) -> None:
        """What is kept has changed."""
        self._stream.account()

    def facts(self) -> Mapping[str, object]:
        """What only HTTP/2 has, for a description."""
        fields = [[name.decode(), value.decode("latin-1")] for name, value in self._stream.head.pseudo]
        return {"stream": self._stream.id, "pseudo_fields": fields}

    def pending_bytes(self) -> int:
        """Nothing is read behind a request."""
        return 0

    def go_on_reading(self, why: int) -> None:
        """The client may send more."""
        self.stopped &= ~why
        if not self.stopped and not (self._stream.is_full and self._demand.kept):
            self._stream.credit_all()

    def stop_reading(self, why: int) -> None:
        """Let the client send no more than it already may."""
        self.stopped |= why

    def on_answered(self) -> None:
        """It is complete."""
        self._go_on(done=True)

    def send_continue(self) -> None:
        self._stream.send_continue()

    def send_head(self, head: bytes) -> None:
        self._stream.begin_as(head)

    def send_content(self, content: bytes | bytearray, *, chunked: bool) -> None:
        self._stream.send(content)

    def send_end(self, *, chunked: bool) -> None:
        self._stream.end()

    def send_whole(self, head: bytes, content: bytes, *, chunked: bool) -> None:
        self._stream.respond_as(head + content)
