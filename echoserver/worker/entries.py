"""Which protocol answers on which listener: the one place in which a new one is named."""

import functools
import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from echoserver.config import options as config
from echoserver.protocols.http1.echo import Admin, HttpEcho, HttpsEcho
from echoserver.protocols.http1.site import Site, Upgrade
from echoserver.protocols.tcp.echo import TcpEcho, TlsEcho
from echoserver.transport.connection import Connection
from echoserver.transport.context import Context
from echoserver.transport.layer import Echo, Next, Stage

if TYPE_CHECKING:
    import ssl

_RAW: dict[str, Echo] = {"tcp": TcpEcho, "tls": TlsEcho}
_HTTP = {"http": HttpEcho, "https": HttpsEcho, "admin": Admin}


def websocket_upgrade(settings: config.Config) -> Upgrade | None:
    """What makes a WebSocket's connection of an HTTP one, where `websockets` is installed (the extra `websocket`).

    To be called before forking too: what it imports takes 4 MB, and some 50 ms.
    """
    if not (settings.http or settings.https) or importlib.util.find_spec("websockets") is None:
        return None
    from echoserver.protocols.websocket.connection import upgrade  # noqa: PLC0415 - it imports websockets

    return upgrade


def factory(
    protocol: str, context: Context, sites: Mapping[str, Site], contexts: "Mapping[str, ssl.SSLContext]"
) -> Callable[[], Connection | Stage]:
    """What makes the protocol of a new connection: a PROXY preamble, TLS and an echo, as far as they are wanted.

    sites: by protocol, for those that are HTTP. contexts: TLS's, likewise for those that are over TLS.
    """
    echo = _echo(protocol, context, sites)
    made: Next = echo
    if protocol in contexts:
        made = _over_tls(echo, contexts, protocol)
    if context.config.proxy_protocol and protocol != "admin":
        from echoserver.layers.proxy import Preamble  # noqa: PLC0415 - few want it

        made = functools.partial(Preamble, following=made)
    return functools.partial(made, context)


def _echo(protocol: str, context: Context, sites: Mapping[str, Site]) -> Echo:
    if protocol in _HTTP:
        return functools.partial(_HTTP[protocol], site=sites[protocol])
    if not config.tcp_faults(context.config):
        return _RAW[protocol]
    from echoserver.protocols.tcp.modes import MODES  # noqa: PLC0415 - few want it

    return MODES[context.config.tcp_mode, protocol]


def _over_tls(following: Echo, contexts: "Mapping[str, ssl.SSLContext]", protocol: str) -> Next:
    from echoserver.layers.tls import Tls  # noqa: PLC0415 - few want it

    # a reload puts another context there
    return lambda context: Tls(context, following, contexts[protocol])
