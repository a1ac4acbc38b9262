"""Reads little at a time on behalf of a connection, where the worker keeps as much as it may already."""

from typing import TYPE_CHECKING

from echoserver.transport.connection import StandIn
from echoserver.transport.context import LITTLE

if TYPE_CHECKING:
    from echoserver.protocols.http1.echo import HttpEcho
    from echoserver.protocols.websocket.connection import WebSocketEcho


class Frugal(StandIn):
    """Takes the place of an HTTP or WebSocket connection until the worker is no longer crowded.

    The worker's buffer is small as long as that is so; uvloop (0.23.0) reads up to 250 KiB for a protocol that does not
    bring a buffer of its own.
    """

    __slots__ = ()

    _connection: "HttpEcho | WebSocketEcho"

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._connection.context.buffer

    def buffer_updated(self, nbytes: int) -> None:
        connection = self._connection
        data = bytes(connection.context.buffer[:nbytes])
        if not connection.context.crowded:
            connection.take_transport()
        connection.data_received(data)
        if nbytes == LITTLE:
            connection.yield_turn()
