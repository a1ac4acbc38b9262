"""What a connection is before it is a protocol's: something is still to come that says who it is, or makes it safe."""

import asyncio
from collections.abc import Callable
from typing import cast

from echoserver.observe import counters
from echoserver.transport.connection import IDLE_GRACE, Connection
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.transport.stream import Stream

Opener = Callable[[Context, Origin], "Connection | Layer"]
"""What makes the protocol of a connection, or a layer before it."""


_FULL = counters.index("errors", "too_many_connections")


class Layer(Stream, asyncio.BufferedProtocol):
    """The common part of the layers: a place among the worker's connections, and a deadline. Not usable by itself.

    It reads into the worker's one buffer; what it has no use for goes to what comes next, which takes its place.
    """

    __slots__ = ("_following", "_since")

    TIMEOUT: int
    """Where the deadline is counted (counters.index)."""

    def __init__(self, context: Context, origin: Origin, following: Opener) -> None:
        """following: what makes that which comes next."""
        super().__init__(context, origin)
        self._following = following
        self._since = context.now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        context = self.context
        context.connections.add(self)
        if context.at_capacity() and len(context.connections) > context.max_connections + context.refusals:
            context.counts[_FULL] += 1
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.context.connections.discard(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.context.buffer

    def take(self, data: bytes) -> None:
        """What has been read before this layer had the transport."""
        raise NotImplementedError

    # --- what the worker asks of all its connections ---

    def sweep(self, now: float) -> None:
        """Close what is overdue."""
        waited = now - self._since
        if 0 < self.context.config.header_timeout <= waited:
            self.context.counts[self.TIMEOUT] += 1
            self.abort()
        elif self.context.closing_idle and waited >= IDLE_GRACE:
            self.transport.close()

    def flush_counters(self) -> None:
        """Nothing of it is counted yet."""

    def shed(self) -> None:
        """Little is kept for it."""

    def idle(self) -> bool:
        """Nothing would be lost now."""
        return True

    def unready(self) -> None:
        """That is for what comes next."""

    def drain(self) -> None:
        """It may go on, for its client may be about to be told that it comes too late."""

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()


def hand_over(transport: asyncio.Transport, before: Layer, after: "Connection | Layer", rest: bytes = b"") -> None:
    """The one way from a layer to what comes next; rest: what has been read of what is for that."""
    before.context.connections.discard(before)
    transport.set_protocol(after)
    after.connection_made(transport)
    if rest and not transport.is_closing():
        after.take(rest)
