"""Moves bytes on without looking at them: read into the worker's one buffer, written from it, nothing allocated."""

import asyncio
import os
from collections.abc import Callable

from echoserver.connection import Connection
from echoserver.protocols.frugal import LITTLE


class Relay(asyncio.BufferedProtocol):
    """Takes the place of a connection as its transport's protocol, for all that comes or for so many bytes.

    left: bytes to move, -1 for all until FIN; done is called when they have been. The bytes go to the socket and not
    through the transport: uvloop (0.23.0) keeps a view of what it could not send, and the buffer is not ours alone.
    """

    __slots__ = ("_buffer", "_connection", "_done", "_left", "_write_to")

    def __init__(self, connection: Connection, left: int, done: Callable[[], None] | None = None) -> None:
        self._connection = connection
        self._left = left
        self._done = done
        self._buffer = connection.worker.buffer
        self._write_to = connection.transport.get_extra_info("socket").fileno()

    def get_buffer(self, sizehint: int) -> memoryview:
        size = LITTLE if self._connection.worker.crowded else len(self._buffer)
        return self._buffer[: min(size, self._left)] if self._left >= 0 else self._buffer[:size]

    def buffer_updated(self, nbytes: int) -> None:
        connection = self._connection
        connection.stamp = connection.worker.now
        data = self._buffer[:nbytes]
        if connection.behind is not None:
            connection.send(data)
        else:
            try:
                sent = os.write(self._write_to, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                connection.cut()
                return
            if sent < nbytes:
                connection.transport.write(bytes(data[sent:]))
        if self._left > 0:
            self._left -= nbytes
            if not self._left and self._done:
                self._done()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def eof_received(self) -> bool:
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
        self._done = None
