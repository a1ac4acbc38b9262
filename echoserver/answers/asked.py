"""What a request asks for besides an echo: by its query, by Accept, or as a preflight request."""

from echoserver.answers import controls
from echoserver.answers.controls import Caps, Controls
from echoserver.answers.cors import preflight
from echoserver.wire.request import Fields, Request
from echoserver.wire.response import HttpError


class Asked:
    """Reads it. caps: how far controls may go, None: there are none. cors: preflight requests are answered."""

    def __init__(self, caps: Caps | None, *, cors: bool) -> None:
        self._caps = caps
        self._cors = cors

    def __call__(self, request: Request, found: Fields) -> Controls | None:
        if self._cors and not found.has_content and (allowed := preflight(request.head)):
            return Controls(controls.NONE, allowed)
        return None if self._caps is None else _controls(request, found, self._caps)

    def names(self, query: bytes) -> bool:
        return self._caps is not None and controls.names_any(query, self._caps)


def _controls(request: Request, found: Fields, caps: Caps) -> Controls | None:
    _, target, version = request.head[: request.head.index(b"\r")].split(b" ")
    asked, ignored = controls.read(target.partition(b"?")[2], caps)
    if ignored:
        request.extra += b"X-Echo-Ignored: %b\r\n" % b", ".join(ignored)
    if found.json and not found.has_content and not request.upgrade:
        asked = asked or Controls()
        asked.echo = asked.echo or controls.JSON
    if asked is not None and asked.chunked and version == b"HTTP/1.0":
        raise HttpError(400, "chunked: the response to an HTTP/1.0 request must not be chunked")
    return asked
