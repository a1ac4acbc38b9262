"""Reads header sections for connections that are answered alike, and ordinary requests in one go.

An ordinary request is what nearly all are: whole, in one read of its own, over HTTP/1.1, with a usual method, a path
that is none of a page's, and fields that ask for nothing but an echo. What decides about its answer, besides the length
of its content, are a few lines; what they mean is read once, by wire.request.read(), and remembered as a plan. Whatever
may be another request is left to that function too: what is answered here is answered as it would be there.
"""

import re
from collections.abc import Set as AbstractSet

import httptools

from echoserver.wire import request as messages
from echoserver.wire import response
from echoserver.wire.request import MAX_FIELDS, PAGES, REMEMBERED, Asks, Known, Preflight, Request
from echoserver.wire.response import HttpError

ORDINARY_SIZE = 8 << 10
"""Bytes at most of an ordinary request with its content: that is copied more often than it would have to be."""

_FEW_LINES = 4 * MAX_FIELDS  # bytes that can't have more lines than are allowed

_BEGINNING = re.compile(
    rb"(?:GET|POST|PUT|PATCH|DELETE) /(?!healthz|readyz|metrics|\.echo)[!->@-~]*(?:\?([!-~]*))? HTTP/1\.1\r\n"
    rb"([Hh]ost: [\-.0-9A-Za-z]+(?::[0-9]+)?\r\n)?"
)
"""A request line, and a Host that needs no closer look. Groups: the query, the Host."""

_LINES_THAT_DECIDE = re.compile(
    rb"\n(?=[HhCcTtEeUuAa])(?i:content-length:|(?:host|con(?:tent-(?:type|encoding|language)|nection)"
    rb"|transfer-encoding|expect|upgrade|accept):[^\r]*)"
)
"""Behind the beginning. Of Content-Length the value is left out: llhttp finds as much content as it says."""

_LINE_END = b"\r\n"


_BEGINNING_AND_END = (None, None)


class _Events:
    """What llhttp tells of a request: to methods of lists, for they are no Python functions."""

    on_url = on_header = on_headers_complete = on_chunk_header = on_chunk_complete = None

    def __init__(self) -> None:
        self.to_come = [*_BEGINNING_AND_END]  # where there is a second beginning, pop() raises an error
        self.content: list[bytes] = []
        self.on_message_begin = self.on_message_complete = self.to_come.pop
        self.on_body = self.content.append


class RequestReader:
    """Reads header sections for connections that are answered alike.

    closing: every answer is its connection's last. unready: nothing is echoed at /readyz any more. echoes: what is no
    page of the server's own is echoed, else refused.
    """

    __slots__ = (
        "__weakref__", "_asks", "_echoes", "_events", "_extra", "_max_body", "_pages", "_parser", "_plans",
        "_preflight", "closing", "known", "remembered", "unready",
    )  # fmt: skip

    _plans: dict[bytes, tuple[bytes, bytes, bool]]
    """For ordinary requests, by what decides about the answer: what is said of the content before its length and behind
    it, and whether it is the request's content (else the request is echoed, which has none)."""

    def __init__(
        self, max_body: int = 0, *, pages: AbstractSet[bytes] = PAGES, echoes: bool = True, extra: bytes = b"",
        known: Known | None = None, asks: Asks | None = None, preflight: Preflight | None = None,
    ) -> None:  # fmt: skip
        self._max_body = max_body
        self._asks = asks
        self._preflight = preflight
        self._pages = pages
        self._echoes = echoes
        self._extra = extra
        self.closing = self.unready = False
        self.known: Known = {} if known is None else known
        self.remembered: dict[bytes, Request] = {}
        self._plans = {}
        self._renew_parser()

    def _renew_parser(self) -> None:
        self._events = _Events()
        self._parser = httptools.HttpRequestParser(self._events)

    def answer(self, data: bytes, prefix: bytes) -> tuple[bytes, int] | None:
        """The response to an ordinary request, behind the prefix, and the size of the request's header section.

        None: data may be something else.
        """
        line = _BEGINNING.match(data)
        if line is None or self.closing:
            return None
        query, host = line.groups()
        if query is not None and self._asks is not None and self._asks.names(query):
            return None
        events = self._events
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._renew_parser()
            return None
        content = events.content.pop() if events.content else b""
        end = len(data) - len(content)
        # llhttp skips CR and LF behind a request
        if content:
            more = data[-1] in _LINE_END and data.find(b"\r\n\r\n") + 4 != end
        else:
            more = data[-5] in _LINE_END or not data.endswith(b"\r\n\r\n")
        if (
            more
            or events.to_come
            or events.content
            or (end > _FEW_LINES and data.count(b"\n", 0, end) > MAX_FIELDS + 2)
        ):
            self._renew_parser()
            return None
        events.to_come += _BEGINNING_AND_END
        lines = _LINES_THAT_DECIDE.findall(data, line.end() - 1, end)
        if host is not None:
            lines.append(b"host")
        plan = self._plans.get(b"".join(lines))
        if plan is None:
            self._renew_parser()  # it takes nothing after a request that is its connection's last
            return None
        before, behind, declared = plan
        if not declared:
            content = data
        elif not content or 0 < self._max_body < len(content):
            return None
        return b"%b%b%d%b%b" % (prefix, before, len(content), behind, content), end

    def read(self, head: bytes) -> Request:
        """Read a whole header section. Raises HttpError."""
        found = messages.read(
            head, self.known, max_body=self._max_body, closing=self.closing, pages=self._pages, extra=self._extra,
            asks=self._asks, preflight=self._preflight,
        )  # fmt: skip
        if (found.probe or not self._echoes) and found.page is None:
            self._check_echo(head, found)
        if found.size >= 0 and not found.connection and found.extra == self._extra:
            self._plan(found)
        return found

    def read_first(self, head: bytes) -> Request:
        """The same for a connection's first request, which is often that of other connections too."""
        if self.closing or self.unready:
            return self.read(head)
        found = self.remembered.get(head)
        if found is None:
            found = self.read(head)
            if len(head) <= messages.REMEMBERED_SIZE:
                if len(self.remembered) >= REMEMBERED:
                    self.remembered.clear()
                self.remembered[head] = found
        return found

    def _plan(self, found: Request) -> None:
        """Remember what the answer is to others that only differ from a request in what does not decide about it."""
        line = _BEGINNING.match(found.head)
        declared = bool(found.content_type)
        if line is None or (declared and not found.content_length):  # without content, Accept may have it described
            return
        lines = _LINES_THAT_DECIDE.findall(found.head, line.end() - 1)
        key = b"".join([*lines, b"host"] if line[2] is not None else lines)
        if len(key) <= messages.REMEMBERED_SIZE:
            if len(self._plans) >= REMEMBERED:
                self._plans.clear()
            before, behind = response.around_length(found.content_type or b"text/plain", self._extra)
            self._plans[key] = before, behind, declared

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
            self._max_body, pages=self._pages, echoes=self._echoes, extra=extra, known=self.known, asks=self._asks,
            preflight=self._preflight,
        )  # fmt: skip
        made.closing, made.unready = self.closing, self.unready
        return made
