"""Which protocol answers on which listener: beside its option, the one place in which a new one is named."""

import functools
import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from echoserver.config import options as config
from echoserver.protocols.http1.connection import HttpConnection
from echoserver.protocols.http1.site import Site, Upgrade
from echoserver.protocols.tcp.echo import TcpEcho
from echoserver.transport.connection import Connection
from echoserver.transport.context import Context
from echoserver.transport.layer import Layer, Opener
from echoserver.transport.origin import Origin, ProtocolInfo
from echoserver.wire.request import Request
from echoserver.wire.response import HttpError

if TYPE_CHECKING:
    import ssl

_TCP = frozenset({"tcp", "tls"})
_KINDS = {name: ProtocolInfo(name) for name in config.PROTOCOLS if name != "udp"}


def websocket_upgrade(settings: config.Config) -> Upgrade | None:
    """What makes a WebSocket's connection of an HTTP one, where `websockets` is installed (the extra `websocket`).

    `websockets` takes 2 MB and some 30 ms to import: workers that share it have it from before they are forked; an only
    one imports it when the first client wants it.
    """
    if not (settings.http or settings.https) or importlib.util.find_spec("websockets") is None:
        return None
    if settings.workers == 1:
        return _upgrade
    from echoserver.protocols.websocket.handshake import upgrade  # noqa: PLC0415 - it imports websockets

    return upgrade


def _upgrade(site: Site, origin: Origin, request: Request) -> Connection:
    try:
        from echoserver.protocols.websocket.handshake import upgrade  # noqa: PLC0415 - likewise
    except (ImportError, MemoryError, OSError):
        raise HttpError(503, "WebSocket cannot be loaded: too little memory, or too few file descriptors") from None
    return upgrade(site, origin, request)


def factory(
    protocol: str, context: Context, sites: Mapping[str, Site], contexts: "Mapping[str, ssl.SSLContext]"
) -> Callable[[], Connection | Layer]:
    """What makes the protocol of a new connection: a PROXY preamble, TLS and an echo, as far as they are wanted.

    sites: by protocol, for those that are HTTP. contexts: TLS's, likewise for those that are over TLS.
    """
    opener = _opener(protocol, context, sites)
    if protocol in contexts:
        opener = _over_tls(opener, contexts, protocol)
    if context.config.proxy_protocol and protocol != "admin":
        from echoserver.layers.proxy import Preamble  # noqa: PLC0415 - few want it

        opener = functools.partial(Preamble, following=opener)
    return functools.partial(opener, context, Origin(_KINDS[protocol]))


def _opener(protocol: str, context: Context, sites: Mapping[str, Site]) -> Opener:
    if protocol in sites:
        return functools.partial(HttpConnection, site=sites[protocol])
    if protocol not in _TCP:
        raise LookupError(protocol)
    if not config.tcp_faults(context.config):
        return TcpEcho
    from echoserver.protocols.tcp.modes import MODES  # noqa: PLC0415 - few want it

    return MODES[context.config.tcp_mode]


def _over_tls(following: Opener, contexts: "Mapping[str, ssl.SSLContext]", protocol: str) -> Opener:
    from echoserver.layers.tls import Tls  # noqa: PLC0415 - few want it

    # a reload puts another context there
    return lambda context, origin: Tls(context, origin, following, contexts[protocol])
