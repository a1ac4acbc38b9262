"""Where a connection comes from: handed on whole, from each layer to the next and to the protocol at last."""

import dataclasses
from typing import TYPE_CHECKING

from echoserver.observe import counters
from echoserver.wire.proxy_preamble import Preamble

if TYPE_CHECKING:
    import ssl


class ProtocolInfo:
    """How a listener's protocol is called in metrics and logs, and where it is counted (counters.index)."""

    __slots__ = ("closed", "name", "opened", "received", "sent")

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened, self.closed = (counters.index(f"connections_{what}", name) for what in ("opened", "closed"))
        self.received, self.sent = (counters.index(f"{what}_bytes", name) for what in ("received", "sent"))


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """One for each listener; a connection gets its own as soon as something is known of it alone.

    kind: the protocol that answers. peer: the client's host and port, where they are known or a proxy said that they
    are others than the socket's; a unix socket's as in the access log. preamble: all that a proxy said. tls: there is
    TLS below, as it was agreed to; else what is written to the socket need not go through the transport.
    """

    kind: ProtocolInfo
    peer: tuple[str, int] | None = None
    preamble: Preamble | None = None
    tls: "ssl.SSLObject | None" = None

    def over_tls(self, tls: "ssl.SSLObject") -> "Origin":
        """The same over TLS."""
        return Origin(self.kind, self.peer, self.preamble, tls)
