"""What connections and the layers before them both do with a transport: a reading gate, and an end in stages."""

import asyncio

from echoserver.transport.context import Context
from echoserver.transport.origin import Origin

LINGER_TIMEOUT = 2.0
"""Seconds at most that what a client still sends is read and dropped after our FIN (RFC 9112 section 9.6)."""

BACKLOG, TURN, DEMAND, PACE = 1, 2, 4, 8
"""Why nothing is read from a connection, a bit for each owner of the reading gate.

It does not read what it is owed; it has had its turn; there is enough to answer on demand; it is to be read slowly.
"""


class Stream:
    """To be inherited beside a protocol of asyncio's. Not usable by itself."""

    __slots__ = ("context", "fin_sent", "origin", "stopped", "transport")

    context: Context
    origin: Origin
    """Who the client is, and how it came here."""
    transport: asyncio.Transport
    fin_sent: float | None
    """The loop's time when our FIN was sent, by a close or before it; None before that."""
    stopped: int
    """Why nothing is read: BACKLOG, TURN, DEMAND and PACE; 0: it is."""

    def __init__(self, context: Context, origin: Origin) -> None:
        self.context = context
        self.origin = origin
        self.fin_sent = None
        self.stopped = 0

    # --- the reading gate: nobody else stops or starts the transport's reading ---

    def stop_reading(self, why: int) -> None:
        """Read nothing until go_on_reading() has been called with the same reason."""
        if not self.stopped:
            self.transport.pause_reading()
        self.stopped |= why

    def go_on_reading(self, why: int) -> None:
        """The reason is none any more: read again if there is no other."""
        stopped, self.stopped = self.stopped, self.stopped & ~why
        if stopped and not self.stopped:
            self.transport.resume_reading()

    # --- an end in stages ---

    def send_fin(self) -> None:
        """Send our FIN; what the client sends until its own is for the caller to read and drop.

        A close at once would answer it with a reset, which can destroy what was sent before.
        """
        self.fin_sent = self.context.loop.time()  # the context's own may be as old as the time that is left
        self.transport.write_eof()

    def has_lingered(self, now: float) -> bool:
        """Whether the client has had its time to end the connection too."""
        return self.fin_sent is not None and now - self.fin_sent >= LINGER_TIMEOUT - self.context.interval
