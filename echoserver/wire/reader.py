"""Reads header sections for connections that are answered alike, and ordinary requests in one go.

What decides about the answer to an ordinary request (see wire.ordinary), besides the length of its content, are a few
lines; what they mean is read once, by wire.request.read(), and remembered as a plan. Whatever may be another request is
left to that function too: what is answered here is answered as it would be there.
"""

from collections.abc import Set as AbstractSet

from echoserver.wire import request as messages
from echoserver.wire import response
from echoserver.wire.ordinary import lines_that_decide, scan
from echoserver.wire.request import PAGES, READY, REMEMBERED, Asks, Fields, Known, Preflight, Request
from echoserver.wire.response import HttpError

ORDINARY_SIZE = 8 << 10
"""Bytes at most of an ordinary request with its content: that is copied more often than it would have to be."""


class RequestReader:
    """Reads header sections for connections that are answered alike.

    closing: every answer is its connection's last. unready: nothing is echoed at /readyz any more. echoes: what is no
    page of the server's own is echoed, else refused. max_body: bytes of content at most, 0 for any. extra: field lines
    of every echo. http2: what reads for connections of HTTP/2 that are answered alike, once there has been one.
    """

    __slots__ = (
        "__weakref__", "_asks", "_echoes", "_pages", "_plans", "_preflight", "closing", "extra", "http2", "known",
        "max_body", "unready",
    )  # fmt: skip

    _plans: dict[bytes, tuple[bytes, bytes, bool, bool]]
    """For ordinary requests, by what decides about the answer: what is said of the content before its length and behind
    it, whether it is the request's content (else the request is echoed, which has none), and whether the connection
    goes on."""

    def __init__(
        self, max_body: int = 0, *, pages: AbstractSet[bytes] = PAGES, echoes: bool = True, extra: bytes = b"",
        known: Known | None = None, asks: Asks | None = None, preflight: Preflight | None = None,
    ) -> None:  # fmt: skip
        self.max_body = max_body
        self._asks = asks
        self._preflight = preflight
        self._pages = pages
        self._echoes = echoes
        self.extra = extra
        self.closing = self.unready = False
        self.http2: object = None
        self.known: Known = {} if known is None else known
        self._plans = {}

    def answer(self, data: bytes, prefix: bytes) -> tuple[bytes, int, bool] | None:
        """The response to an ordinary request, behind the prefix; the size of the request's header section; whether
        the connection goes on. None: data may be something else.
        """
        scanned = scan(data)
        if scanned is None or self.closing:
            return None
        lines, end, query = scanned
        plan = self._plans.get(lines)
        if plan is None or (query is not None and self._asks is not None and self._asks.names(query)):
            return None
        before, behind, declared, goes_on = plan
        if not declared:
            return b"%b%b%d%b%b" % (prefix, before, end, behind, data), end, goes_on
        size = len(data) - end
        if not size or 0 < self.max_body < size:
            return None
        return b"%b%b%d%b%b" % (prefix, before, size, behind, data[end:]), end, goes_on

    def read(self, head: bytes) -> Request:
        """Read a whole header section. Raises HttpError."""
        found = messages.read(
            head, self.known, max_body=self.max_body, closing=self.closing, pages=self._pages, extra=self.extra,
            asks=self._asks, preflight=self._preflight,
        )  # fmt: skip
        if (found.probe or not self._echoes) and found.page is None:
            self._check_echo(head, found)
        if found.size >= 0 and not self.closing and found.extra == self.extra:
            self._plan(found)
        return found

    def is_plain(self, path: bytes) -> bool:
        """Whether a request of HTTP/2 for a path, with its query, asks for nothing but an echo."""
        path, mark, query = path.partition(b"?")
        return (
            path[:1] == b"/"
            and self._echoes
            and path not in self._pages
            and path != READY
            and not (mark and self._asks is not None and self._asks.names(query))
        )

    def read_http2(
        self, head: bytes, method: bytes, path: bytes, found: Fields, length: int, *,
        declared: bool, protocol: bytes | None,
    ) -> Request:  # fmt: skip
        """What a request of HTTP/2 is answered with. Raises HttpError.

        head: as HTTP/1.1 would have it. length: bytes of content as declared, -1 where they are not; declared: there is
        content. protocol: what is to be spoken on its stream (RFC 8441).
        """
        if protocol is not None and (protocol != b"websocket" or method != b"CONNECT"):
            raise HttpError(501, "the only :protocol supported is websocket, with CONNECT (RFC 8441)")
        found = found.with_content(length, declared=declared)
        request = messages.interpret(
            Request(head), method if protocol is None else b"GET", path, b"2", found,
            max_body=self.max_body, closing=False, pages=self._pages, extra=self.extra, asks=self._asks,
            preflight=self._preflight,
        )  # fmt: skip
        request.upgrade = protocol is not None and request.page is None
        if (request.probe or not self._echoes) and request.page is None:
            self._check_echo(head, request)
        return request

    def _plan(self, found: Request) -> None:
        """Remember what the answer is to others that only differ from a request in what does not decide about it."""
        lines = lines_that_decide(found.head)
        declared = bool(found.content_type)
        if lines is None or (declared and not found.content_length):  # without content, Accept may have it described
            return
        if len(lines) <= messages.REMEMBERED_SIZE:
            if len(self._plans) >= REMEMBERED:
                self._plans.clear()
            content_type = found.content_type or b"text/plain"
            before, behind = response.around_length(content_type, found.connection, self.extra)
            self._plans[lines] = before, behind, declared, found.keep_alive

    def _check_echo(self, head: bytes, found: Request) -> None:
        """Refuse an echo where there are only pages, and where somebody might take the server for ready that is not."""
        if found.probe and self.unready:
            raise HttpError(503, "the server is shutting down")
        if self._echoes:
            return
        method, target, _ = head.split(b" ", 2)
        if messages.path_of(method, target) not in self._pages:
            served = ", ".join(sorted(each.decode() for each in self._pages))
            raise HttpError(404, f"this listener serves only {served}")
        if method in messages.ASK_FOR_PAGES:
            raise HttpError(400, "a request for one of the server's own pages must not have content")
        raise HttpError(405, "the methods for the server's own pages are GET, HEAD and OPTIONS", messages.ALLOW)

    def with_extra(self, extra: bytes) -> "RequestReader":
        """One that does the same, but for field lines that it adds to every echo."""
        made = RequestReader(
            self.max_body, pages=self._pages, echoes=self._echoes, extra=extra, known=self.known, asks=self._asks,
            preflight=self._preflight,
        )  # fmt: skip
        made.closing, made.unready = self.closing, self.unready
        return made
