"""Content of a known length that is received whole: into one buffer, behind the room for its head, without copies."""

from echoserver.protocols.http1.content import Content, Owner
from echoserver.protocols.http1.states import PARKED
from echoserver.transport.context import SMALL_READ
from echoserver.transport.readers import Delegate
from echoserver.wire.request import Request

_SPARE = 4096  # a read that fills its buffer would make libuv (1.52) try another one at once
_CLOSE = len(b"Connection: close\r\n")  # which a drain may add to the answer
_STEP = 1 << 20  # bytes read at a time
_FIRST = 512 << 10  # bytes read at first of what may be another request: not much more than of any other
_NONE = memoryview(b"")


class Gathered(Delegate[Owner], Content):
    """Takes the place of an HTTP connection as its transport's protocol while large content comes.

    The content's place in the buffer leaves room before it for the head of the request and for that of the answer.
    Between two requests it stays (PARKED), for the next one may be the same: that one is read so that its head ends
    where the content's place begins, and not even the content that comes with its head is copied. The connection is
    told by on_same() if it is the same, on_another() if something else came, and on_whole() when all content is there
    or as much as may be kept.
    """

    __slots__ = ("_buffer", "_context", "_end", "_filled", "_place", "_request", "_room")

    in_place = True

    def __init__(self, connection: Owner, request: Request) -> None:
        super().__init__(connection)
        self._context = connection.context
        self._request = request
        self._place = max(request.head_size, len(connection.site.prefix) + len(request.answer) + _CLOSE)
        self._end = self._place + request.content_length
        self._filled = 0  # where the next bytes go
        self._buffer = _NONE  # taken when there is something to read

    @property
    def received(self) -> int:
        return max(0, min(self._filled, self._end) - self._place)

    @property
    def answered(self) -> int:
        return self.received if self._buffer is _NONE else 0

    @property
    def kept(self) -> int:
        return 0 if self._buffer is _NONE else self.received

    def start(self, first: bytes) -> None:
        """Take over the transport, with the content that has come already. Raises OSError without room for a buffer."""
        connection = self._connection
        self._buffer = connection.context.pool.take(self._end + _SPARE)
        self._filled = self._place + len(first)
        self._buffer[self._place : self._filled] = first
        connection.account_buffered(len(first))
        connection.transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._buffer is _NONE:
            self._buffer = self._context.pool.take(self._end + _SPARE)
            self._filled = self._place - self._request.head_size
        most = SMALL_READ if self._context.under_pressure else _FIRST if self._connection.state is PARKED else _STEP
        buffer = self._buffer[self._filled : self._filled + most]
        self._room = len(buffer)
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        context, connection = self._context, self._connection
        connection.received += nbytes
        filled = self._filled = self._filled + nbytes
        if nbytes == self._room or self._full_reads:
            self.take_share(nbytes, self._room)
        if connection.state is PARKED:
            nbytes = self._begin(filled)
            if nbytes < 0:
                return
        if filled >= self._end:  # all is here: nothing needs to be held
            self._finish(filled)
            return
        connection.account_buffered(nbytes)
        if context.under_pressure:
            self._finish(filled)

    def _begin(self, filled: int) -> int:
        """The first bytes of another request: how many are content that belongs where it is, or -1."""
        place, request, connection = self._place, self._request, self._connection
        head = self._buffer[place - request.head_size : min(filled, place)]
        if head == request.head and connection.write_queue is None:
            connection.on_same(self, request)
            return filled - place
        data = bytes(self._buffer[place - request.head_size : filled])
        self.stop()
        connection.on_another(data)
        return -1

    def _finish(self, filled: int) -> None:
        buffer, end, place = self._buffer, self._end, self._place
        self._buffer = _NONE
        rest = bytes(buffer[end:filled])
        self._connection.on_whole(buffer, place, min(filled, end), rest)

    def stop(self) -> None:
        if self._buffer is not _NONE:
            self._connection.context.pool.give(self._buffer)
            self._buffer = _NONE

    def eof_received(self) -> bool:
        if self._connection.state is PARKED:  # libuv asked for a buffer before it found the FIN
            self.stop()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.stop()
