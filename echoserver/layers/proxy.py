"""PROXY protocol: takes off the preamble in which a proxy says who its client is, and hands on what follows."""

import dataclasses

from echoserver.observe import counters
from echoserver.transport.context import Context
from echoserver.transport.layer import Layer, Opener, hand_over
from echoserver.transport.origin import Origin
from echoserver.wire.proxy_preamble import BadPreamble, PreambleReader

_BAD = counters.index("errors", "proxy_protocol")


class Preamble(Layer):
    """Reads until the preamble is complete; the connection is its client's from then on."""

    __slots__ = ("_reader",)

    TIMEOUT = counters.index("timeouts", "proxy_protocol")

    def __init__(self, context: Context, origin: Origin, following: Opener) -> None:
        super().__init__(context, origin, following)
        self._reader = PreambleReader()

    def buffer_updated(self, nbytes: int) -> None:
        context = self.context
        data = bytes(context.buffer[:nbytes])
        try:
            taken = self._reader.feed(data)
        except BadPreamble as error:
            context.counts[_BAD] += 1
            context.log_refused(self.transport, None, f"PROXY protocol: {error}")
            self.abort()
            return
        preamble = self._reader.preamble
        if preamble is None:
            return
        peer = preamble.source if isinstance(preamble.source, tuple) else None
        origin = dataclasses.replace(self.origin, preamble=preamble, peer=peer)
        hand_over(self.transport, self, self._following(context, origin), data[taken:])
