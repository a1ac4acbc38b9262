"""The opening handshake (RFC 6455 section 4): an HTTP request in, the connection that follows and its 101 out.

On a stream of HTTP/2 (RFC 8441) it is a 200.
"""

import dataclasses
import logging
import re
from collections.abc import Sequence

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request as Handshake
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from echoserver.protocols.http1.site import Site
from echoserver.protocols.websocket.connection import WebSocketEcho
from echoserver.transport.origin import Origin, ProtocolInfo
from echoserver.wire.request import Request
from echoserver.wire.response import HttpError

_KIND = ProtocolInfo("websocket")
_MOST_MEMBERS = 100  # in the lists of a handshake: the library takes 4 us for each
_FIELDS = re.compile(rb"\r\n(sec-websocket-[^:\r]*):([^\r]*)", re.IGNORECASE)
_EXPECTED = {
    "Sec-WebSocket-Key": "one Sec-WebSocket-Key field with 16 bytes in base64",
    "Sec-WebSocket-Version": "one Sec-WebSocket-Version field with the value 13",
    "Sec-WebSocket-Extensions": "a list of extensions in Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol": "a list of tokens in Sec-WebSocket-Protocol",
}  # fmt: skip
# 32 KiB a connection for what is sent; 4 KiB, where the client lets a server say so, for what is received, else 32
_DEFLATE = (
    ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    ),
)
_ANY_KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
_SILENT = logging.Logger("websockets", logging.CRITICAL + 1)  # it tells of every connection, and prints tracebacks


class _Core(ServerProtocol):
    """Agrees to the first subprotocol offered: browsers end a connection that agrees to none of theirs."""

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        return subprotocols[0] if subprotocols else None


def upgrade(site: Site, origin: Origin, request: Request) -> WebSocketEcho:
    """The WebSocket that follows an HTTP connection: it says so when it gets the transport. Raises HttpError."""
    # open: else it would read the request itself
    core = _Core(extensions=_DEFLATE, state=OPEN, logger=_SILENT)
    fields = Headers(Upgrade="websocket", Connection="Upgrade")
    on_stream = request.head.startswith(b"CONNECT ")
    found = _FIELDS.findall(request.head)
    if on_stream:  # RFC 8441 section 5: what proves the handshake to be one is not there
        found = [each for each in found if each[0].lower() != b"sec-websocket-key"]
        fields["Sec-WebSocket-Key"] = _ANY_KEY
    if sum(value.count(b",") + value.count(b";") for _, value in found) > _MOST_MEMBERS:
        raise HttpError(400, f"the WebSocket fields must not have more than {_MOST_MEMBERS} members and parameters")
    for name, value in found:
        fields[name.decode("latin-1")] = value.strip(b" \t").decode("latin-1")
    response = core.accept(Handshake("/", fields))
    if response.status_code != 101:
        raise _refusal(core.handshake_exc)
    del response.headers["Date"]
    if on_stream:
        for name in ("Upgrade", "Connection", "Sec-WebSocket-Accept"):
            del response.headers[name]
    answer = site.start(200 if on_stream else 101) + request.extra + response.headers.serialize()
    origin = dataclasses.replace(origin, kind=_KIND)
    return WebSocketEcho(site.context, origin, request.head, core, answer)


def _refusal(error: Exception | None) -> HttpError:
    name = error.name if isinstance(error, InvalidHeader) else ""
    if error is not None:
        error.__traceback__ = None  # its frames know the connection, which knows the core, which keeps the error
    expected = _EXPECTED.get(name, "the fields of RFC 6455 section 4.1")
    version = b"Sec-WebSocket-Version: 13\r\n" if name == "Sec-WebSocket-Version" else b""  # RFC 6455 section 4.4
    return HttpError(400, f"the WebSocket handshake is not valid: expected {expected}", version)
