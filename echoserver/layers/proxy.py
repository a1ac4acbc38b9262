"""PROXY protocol: takes off the preamble in which a proxy says who its client is, and hands on what follows."""

from echoserver.observe import counters
from echoserver.transport.context import Context
from echoserver.transport.layer import Next, Stage
from echoserver.wire.proxy_preamble import BadPreamble, PreambleReader

_BAD = counters.index("errors", "proxy_protocol")


class Preamble(Stage):
    """Reads until the preamble is complete; the connection is its client's from then on."""

    __slots__ = ("_next", "_reader")

    TIMEOUT = counters.index("timeouts", "proxy_protocol")

    def __init__(self, context: Context, following: Next) -> None:
        super().__init__(context)
        self._next = following
        self._reader = PreambleReader()

    def buffer_updated(self, nbytes: int) -> None:
        context = self.context
        data = bytes(context.buffer[:nbytes])
        try:
            taken = self._reader.feed(data)
        except BadPreamble as error:
            context.counts[_BAD] += 1
            context.log_refused(self.transport, None, f"PROXY protocol: {error}")
            self.cut()
            return
        preamble = self._reader.preamble
        if preamble is None:
            return
        context.connections.discard(self)
        following = self._next(context)
        following.proxied = preamble
        if isinstance(preamble.source, tuple):
            following.peer = preamble.source
        self.transport.set_protocol(following)
        following.connection_made(self.transport)
        rest = data[taken:]
        if rest and not self.transport.is_closing():
            following.take(rest)
