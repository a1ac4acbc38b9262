"""Moves bytes on without looking at them: read into the worker's one buffer, written from it, nothing allocated."""

from collections.abc import Callable
from os import write

from echoserver.transport.connection import Connection, StandIn


class Relay(StandIn):
    """Takes the place of a connection as its transport's protocol, for all that comes until FIN.

    The bytes go to the socket and not through the transport: uvloop (0.23.0) keeps a view of what it could not send,
    and the buffer is not ours alone.
    """

    __slots__ = ("_context", "_descriptor")

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._context = connection.context
        self._descriptor = connection.transport.get_extra_info("socket").fileno()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._context.buffer

    def buffer_updated(self, nbytes: int) -> None:
        connection, context = self._connection, self._context
        connection.stamp = context.now
        connection.received += nbytes
        data = context.buffer[:nbytes]
        if connection.behind is not None or not connection.DIRECT:
            connection.send(data)
        else:
            connection.sent += nbytes
            try:
                sent = write(self._descriptor, data)
            except OSError:  # no room, or an error: the transport will meet it too, and end the connection as always
                sent = 0
            if sent != nbytes:
                connection.transport.write(bytes(data[sent:]))
        if nbytes == len(context.buffer) or self._full_reads:
            self.take_share(nbytes, len(context.buffer))


class RelayContent(Relay):
    """The same for so many bytes; done is called when they have been moved."""

    __slots__ = ("_done", "left")

    left: int
    """Bytes that are still to come."""

    def __init__(self, connection: Connection, left: int, done: Callable[[], None]) -> None:
        super().__init__(connection)
        self.left = left
        self._done = done

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._context.buffer[: self.left]

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self.left -= nbytes
        if not self.left and not self._connection.transport.is_closing():
            self._done()
