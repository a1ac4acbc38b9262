"""Which protocol answers on which listener: beside its option, the one place in which a new one is named."""

import contextlib
import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from echoserver.config import options as config
from echoserver.protocols.http1.connection import HttpConnection
from echoserver.protocols.http1.site import Http2, Site, Upgrade
from echoserver.protocols.tcp.echo import TcpEcho
from echoserver.transport.connection import Connection
from echoserver.transport.context import Context
from echoserver.transport.layer import Layer, Opener
from echoserver.transport.origin import Origin, ProtocolInfo
from echoserver.wire import first_bytes
from echoserver.wire.request import Request
from echoserver.wire.response import HttpError

if TYPE_CHECKING:
    import ssl

_TCP = frozenset({"tcp", "tls"})
_KINDS = {name: ProtocolInfo(name) for name in config.PROTOCOLS if name not in {"udp", "any"}}


def websocket_upgrade(settings: config.Config) -> Upgrade | None:
    """What makes a WebSocket's connection of an HTTP one, where `websockets` is installed (the extra `websocket`).

    `websockets` takes 2 MB and some 30 ms to import: workers that share it have it from before they are forked; an only
    one imports it when the first client wants it.
    """
    if not (settings.http or settings.https or settings.any) or importlib.util.find_spec("websockets") is None:
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


def http2(settings: config.Config) -> Http2 | None:
    """What makes a connection of HTTP/2. It is imported as websocket_upgrade() has it."""
    if not settings.http2 or not (settings.http or settings.https or settings.any):
        return None
    if settings.workers == 1:
        return _http2
    from echoserver.protocols.http2.connection import begin  # noqa: PLC0415 - some want it

    return begin


def _http2(site: Site, origin: Origin) -> Connection:
    try:
        from echoserver.protocols.http2.connection import begin  # noqa: PLC0415 - likewise
    except (ImportError, MemoryError, OSError):
        raise HttpError(503, "HTTP/2 cannot be loaded: too little memory, or too few file descriptors") from None
    return begin(site, origin)


def factory(
    protocol: str, context: Context, sites: Mapping[str, Site], contexts: "Mapping[str, ssl.SSLContext]"
) -> Callable[[], Connection | Layer]:
    """What makes the protocol of a new connection: a PROXY preamble, TLS and an echo, as far as they are wanted.

    sites: by protocol, for those that are HTTP. contexts: TLS's, likewise for those that are over TLS.
    """
    opener = _opener(protocol, context, sites) if protocol != "any" else _any(context, sites, contexts)
    if protocol == "https":
        opener = functools.partial(_by_alpn, site=sites[protocol], otherwise=opener)
    if protocol in contexts and protocol != "any":
        opener = _over_tls(opener, contexts, protocol)
    if context.config.proxy_protocol and protocol != "admin":
        from echoserver.layers.proxy import Preamble  # noqa: PLC0415 - few want it

        opener = functools.partial(Preamble, following=opener)
    return functools.partial(opener, context, Origin(_KINDS[protocol if protocol != "any" else "tcp"]))


def _opener(protocol: str, context: Context, sites: Mapping[str, Site]) -> Opener:
    if protocol in sites:
        return functools.partial(HttpConnection, site=sites[protocol])
    if protocol not in _TCP:
        raise LookupError(protocol)
    if not config.tcp_faults(context.config):
        return TcpEcho
    from echoserver.protocols.tcp.modes import MODES  # noqa: PLC0415 - few want it

    return MODES[context.config.tcp_mode]


def _by_alpn(context: Context, origin: Origin, site: Site, otherwise: Opener) -> "Connection | Layer":
    """HTTP/2 where client and server have agreed to that (RFC 9113 section 3.2)."""
    if site.begin_http2 is not None and origin.tls is not None and origin.tls.selected_alpn_protocol() == "h2":
        with contextlib.suppress(HttpError):  # it cannot be loaded
            return site.begin_http2(site, origin)
    return otherwise(context, origin)


def _any(context: Context, sites: Mapping[str, Site], contexts: "Mapping[str, ssl.SSLContext]") -> Opener:
    """What looks at the first bytes, and again at those within TLS where client and server have agreed to nothing."""
    from echoserver.layers.detect import Detect  # noqa: PLC0415 - few want it

    site = sites["any"]

    def of(kind: str, opener: Opener) -> Opener:
        return lambda context, origin: opener(context, dataclasses.replace(origin, kind=_KINDS[kind]))

    def openers(http: str, tcp: str) -> dict[str, Opener]:
        found = {
            first_bytes.RAW: of(tcp, _opener("tcp", context, sites)),
            first_bytes.HTTP: of(http, functools.partial(HttpConnection, site=site)),
        }
        if (begin := site.begin_http2) is not None:
            found[first_bytes.HTTP2] = functools.partial(_http2_or, found[first_bytes.HTTP], begin, site)
        return found

    def within_tls(context: Context, origin: Origin) -> "Connection | Layer":
        agreed = origin.tls.selected_alpn_protocol() if origin.tls is not None else None
        first = {"h2": first_bytes.HTTP2, "http/1.1": first_bytes.HTTP}.get(agreed or "")
        return inner[first](context, origin) if first else Detect(context, origin, inner)

    outer, inner = openers("http", "tcp"), openers("https", "tls")
    if "any" in contexts:
        outer[first_bytes.TLS] = _over_tls(within_tls, contexts, "any")
    return lambda context, origin: Detect(context, origin, outer)


def _http2_or(otherwise: Opener, begin: Http2, site: Site, context: Context, origin: Origin) -> "Connection | Layer":
    """HTTP/2, or what says that it is not spoken, where it cannot be loaded."""
    try:
        return begin(site, origin)
    except HttpError:
        return otherwise(context, origin)


def _over_tls(following: Opener, contexts: "Mapping[str, ssl.SSLContext]", protocol: str) -> Opener:
    from echoserver.layers.tls import Tls  # noqa: PLC0415 - few want it

    # a reload puts another context there
    return lambda context, origin: Tls(context, origin, following, contexts[protocol])
