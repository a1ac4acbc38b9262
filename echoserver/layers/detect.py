"""Any protocol on one port: what the client's first bytes are of is what is spoken (--any)."""

import asyncio
from collections.abc import Mapping

from echoserver.transport.connection import IDLE_GRACE
from echoserver.transport.context import Context
from echoserver.transport.layer import Layer, Opener, hand_over
from echoserver.transport.origin import Origin
from echoserver.wire.first_bytes import RAW, protocol_of


class Detect(Layer):
    """Reads until it can be told; for too long (--detect-timeout), or until the client's FIN: raw TCP then."""

    __slots__ = ("_openers", "_read", "_timer")

    def __init__(self, context: Context, origin: Origin, openers: Mapping[str, Opener]) -> None:
        """openers: by what protocol_of() says; what is not there is raw TCP."""
        super().__init__(context, origin, openers[RAW])
        self._openers = openers
        self._read = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._timer = self.context.loop.call_later(self.context.config.detect_timeout, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def buffer_updated(self, nbytes: int) -> None:
        self.take(bytes(self.context.buffer[:nbytes]))

    def take(self, data: bytes) -> None:
        """What has been read."""
        self._read += data
        found = protocol_of(self._read)
        if found is not None:
            self._go_on_with(self._openers.get(found, self._following))

    def eof_received(self) -> bool:
        """The client's FIN: what has come is all, and too little for anything else."""
        following = self._go_on_with(self._following)
        return bool(following.eof_received()) if not self.transport.is_closing() else False

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self._go_on_with(self._following)

    def _go_on_with(self, opener: Opener) -> asyncio.BufferedProtocol | asyncio.Protocol:
        self._cancel()
        following = opener(self.context, self.origin)
        hand_over(self.transport, self, following, self._read)
        return following

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def sweep(self, now: float) -> None:
        """Its time is its own: nothing is overdue here."""
        if self.context.closing_idle and now - self._since >= IDLE_GRACE:
            if self._read:
                self._give_up()
            else:
                self.transport.close()
