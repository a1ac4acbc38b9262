"""Receives content of a known length whole, into one buffer and without copies, behind the room for its head."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from echoserver.protocols.http import HttpEcho


class Gather(asyncio.BufferedProtocol):
    """Takes the place of an HTTP connection as its transport's protocol until the content is complete.

    room: bytes left free before the content; done gets the buffer and how much of the content it holds, when that is
    all of it, or when the worker keeps so much that the rest has to be relayed.
    """

    __slots__ = ("_buffer", "_connection", "_done", "_end", "_filled", "_room")

    def __init__(self, connection: "HttpEcho", room: int, length: int, done: Callable[[memoryview, int], None]) -> None:
        self._connection = connection
        self._done = done
        self._buffer = connection.worker.pool.take(room + length)
        self._room = self._filled = room
        self._end = room + length

    def start(self, first: bytes) -> None:
        """Begin with what has come already, and take over the transport."""
        stop = self._filled + len(first)
        self._buffer[self._filled : stop] = first
        self._filled = stop
        self._connection.hold(len(first))
        self._connection.transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[self._filled : self._end]

    def buffer_updated(self, nbytes: int) -> None:
        connection = self._connection
        worker = connection.worker
        connection.stamp = worker.now
        self._filled += nbytes
        connection.hold(nbytes)
        if self._filled == self._end or worker.crowded:
            self._done(self._buffer, self._filled - self._room)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def eof_received(self) -> bool:
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
