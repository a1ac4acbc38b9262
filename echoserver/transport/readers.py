"""Readers: a connection lends one its transport, to be read another way than in objects of bytes.

SmallReads reads little at a time, Relay moves bytes on without looking at them; what gathers large content is HTTP's.
"""

import asyncio
from collections.abc import Callable
from os import write
from typing import Generic, Protocol, TypeVar

from echoserver.transport.connection import Connection
from echoserver.transport.context import SMALL_READ

_FULL_READS = 4  # reads in a turn that fill the worker's buffer: a MiB


class Lender(Protocol):
    """What a reader asks of the connection that lends it the transport."""

    def yield_turn(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


L = TypeVar("L", bound=Lender)


class Delegate(asyncio.BufferedProtocol, Generic[L]):
    """Takes the place of a connection as its transport's protocol, to read into a buffer: not usable by itself."""

    __slots__ = ("_connection", "_full_reads")

    def __init__(self, connection: L) -> None:
        self._connection = connection
        self._full_reads = 0

    def take_share(self, nbytes: int, size: int) -> None:
        """So many bytes have been read into a buffer of a size: whoever fills it again and again has had its turn."""
        if nbytes < size:
            self._full_reads = 0  # and libuv reads no more of it in this turn
            return
        self._full_reads += 1
        if self._full_reads >= _FULL_READS:
            self._full_reads = 0
            self._connection.yield_turn()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def eof_received(self) -> bool:
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)


class SmallReads(Delegate[Connection]):
    """Takes the place of a connection until the worker is no longer under memory pressure.

    The worker's buffer is small as long as that is so; uvloop (0.23.0) reads up to 250 KiB for a protocol that does not
    bring a buffer of its own.
    """

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._connection.context.buffer

    def buffer_updated(self, nbytes: int) -> None:
        connection = self._connection
        data = bytes(connection.context.buffer[:nbytes])
        if not connection.context.under_pressure:
            attach(connection)
        connection.data_received(data)
        if nbytes == SMALL_READ:
            connection.yield_turn()


def attach(connection: Connection) -> None:
    """Make a connection its transport's protocol, or have it read little at a time."""
    connection.transport.set_protocol(SmallReads(connection) if connection.context.under_pressure else connection)


class Relay(Delegate[Connection]):
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
        connection.last_activity = context.now
        connection.received += nbytes
        data = context.buffer[:nbytes]
        if connection.write_queue is not None or connection.origin.tls is not None:
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
