"""PROXY protocol: takes off the preamble in which a proxy says who its client is, and hands on what follows."""

from typing import TYPE_CHECKING

from echoserver.observe import counters
from echoserver.transport.layer import Next, Stage
from echoserver.wire.proxy_preamble import BadPreamble, PreambleReader

if TYPE_CHECKING:
    from echoserver.worker.worker import Worker

_BAD = counters.index("errors", "proxy_protocol")


class Preamble(Stage):
    """Reads until the preamble is complete; the connection is its client's from then on."""

    __slots__ = ("_next", "_reader")

    TIMEOUT = counters.index("timeouts", "proxy_protocol")

    def __init__(self, worker: "Worker", following: Next) -> None:
        super().__init__(worker)
        self._next = following
        self._reader = PreambleReader()

    def buffer_updated(self, nbytes: int) -> None:
        worker = self.worker
        data = bytes(worker.buffer[:nbytes])
        try:
            taken = self._reader.feed(data)
        except BadPreamble as error:
            worker.counts[_BAD] += 1
            worker.log_refused(self.transport, None, f"PROXY protocol: {error}")
            self.cut()
            return
        preamble = self._reader.preamble
        if preamble is None:
            return
        worker.connections.discard(self)
        following = self._next(worker)
        following.proxied = preamble
        if isinstance(preamble.source, tuple):
            following.peer = preamble.source
        self.transport.set_protocol(following)
        following.connection_made(self.transport)
        rest = data[taken:]
        if rest and not self.transport.is_closing():
            following.take(rest)
