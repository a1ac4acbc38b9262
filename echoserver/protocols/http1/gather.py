"""Receives content of a known length whole, into one buffer and without copies, behind the room for its head."""

import asyncio
from typing import Protocol

from echoserver.protocols.http1.site import Site
from echoserver.transport.context import SMALL_READ, Context
from echoserver.transport.readers import Lender, StandIn
from echoserver.wire.request import Request

_SPARE = 4096  # a read that fills its buffer would make libuv (1.52) try another one at once
_CLOSE = len(b"Connection: close\r\n")  # which a drain may add to the answer
_STEP = 1 << 20  # bytes read at a time
_FIRST = 512 << 10  # bytes read at first of what may be another request: not much more than of any other
_NONE = memoryview(b"")


class Owner(Lender, Protocol):
    """What a Gather asks of its connection.

    parked: between two requests. again: the same header section has come again. another: something else has.
    on_whole: all content has come, or as much as may be kept.
    """

    parked: bool
    behind: bytearray | None
    context: Context
    received: int
    site: Site
    transport: asyncio.Transport

    def hold(self, size: int) -> None: ...
    def again(self, request: Request) -> None: ...
    def another(self, data: bytes) -> None: ...
    def on_whole(self, buffer: memoryview, place: int, end: int, rest: bytes) -> None: ...


class Gather(StandIn[Owner]):
    """Takes the place of an HTTP connection as its transport's protocol while large content comes.

    The content's place in the buffer leaves room before it for the head of the request and for that of the answer.
    Between two requests it stays, for the next one may be the same: that one is read so that its head ends where the
    content's place begins, and not even the content that comes with its head is copied.
    """

    __slots__ = ("_buffer", "_context", "_end", "_filled", "_place", "_request", "_room")

    def __init__(self, connection: Owner, request: Request) -> None:
        super().__init__(connection)
        self._context = connection.context
        self._request = request
        self._place = max(request.head_size, len(connection.site.prefix) + len(request.answer) + _CLOSE)
        self._end = self._place + request.content_length
        self._filled = 0  # where the next bytes go
        self._buffer = _NONE  # taken when there is something to read

    def start(self, first: bytes) -> None:
        """Take over the transport, with the content that has come already. Raises OSError without room for a buffer."""
        connection = self._connection
        self._buffer = connection.context.pool.take(self._end + _SPARE)
        self._filled = self._place + len(first)
        self._buffer[self._place : self._filled] = first
        connection.hold(len(first))
        connection.transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._buffer is _NONE:
            self._buffer = self._context.pool.take(self._end + _SPARE)
            self._filled = self._place - self._request.head_size
        most = SMALL_READ if self._context.under_pressure else _FIRST if self._connection.parked else _STEP
        buffer = self._buffer[self._filled : self._filled + most]
        self._room = len(buffer)
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        context, connection = self._context, self._connection
        connection.received += nbytes
        filled = self._filled = self._filled + nbytes
        if nbytes == self._room or self._full_reads:
            self.take_share(nbytes, self._room)
        if connection.parked:
            nbytes = self._begin(filled)
            if nbytes < 0:
                return
        if filled >= self._end:  # all is here: nothing needs to be held
            self._finish(filled)
            return
        connection.hold(nbytes)
        if context.under_pressure:
            self._finish(filled)

    def _begin(self, filled: int) -> int:
        """The first bytes of another request: how many are content that belongs where it is, or -1."""
        place, request, connection = self._place, self._request, self._connection
        head = self._buffer[place - request.head_size : min(filled, place)]
        if head == request.head and connection.behind is None:
            connection.again(request)
            return filled - place
        data = bytes(self._buffer[place - request.head_size : filled])
        self._give_back()
        connection.another(data)
        return -1

    def _finish(self, filled: int) -> None:
        buffer, end, place = self._buffer, self._end, self._place
        self._buffer = _NONE
        rest = bytes(buffer[end:filled])
        self._connection.on_whole(buffer, place, min(filled, end), rest)

    def _give_back(self) -> None:
        if self._buffer is not _NONE:
            self._connection.context.pool.give(self._buffer)
            self._buffer = _NONE

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_back()
        super().connection_lost(exc)
