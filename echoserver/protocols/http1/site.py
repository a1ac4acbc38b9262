"""What the HTTP connections of a listener share: how requests are read, and what responses begin with."""

import math
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

from echoserver.answers import page as browser
from echoserver.answers.asked import Asked
from echoserver.answers.controls import Caps
from echoserver.answers.cors import preflight
from echoserver.observe import metrics
from echoserver.transport.connection import Connection
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.wire import response
from echoserver.wire.reader import ORDINARY_SIZE, RequestReader
from echoserver.wire.request import BROWSER_PAGE, PAGES, Request

_TEXT, _HTML = b"text/plain; charset=utf-8", b"text/html; charset=utf-8"

Upgrade = Callable[["Site", Origin, Request], Connection]
"""Begins another protocol on a connection, as a request asks for; raises HttpError."""

Http2 = Callable[["Site", Origin], Connection]
"""Begins HTTP/2 on a connection whose client speaks that; raises HttpError."""


class Site:
    """Of one kind of listener: those for everybody, or that of --admin.

    prefix is the beginning of a 200 response as of the last tick. ordinary_size: bytes at most of a request that its
    reader may answer in one go. upgrade: what makes a WebSocket's connection of an HTTP one. ready: what
    /readyz says. public: its connections count for --max-connections, and are in the access log; those of --admin do
    neither, for a worker that is full is alive, and its metrics say that it is. reader: for connections whose client
    has no certificate. begin_http2: what makes a connection of HTTP/2, None where there is none; http2: what these
    share, once there has been one. kubernetes: where this runs, as far as it was told.
    """

    __slots__ = (
        "_browser_page", "_cors", "_metrics", "_served_by", "_subject_readers", "begin_http2", "context", "http2",
        "kubernetes", "ordinary_size", "prefix", "public", "reader", "ready", "upgrade",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        reader: RequestReader,
        *,
        public: bool = True,
        cors: str | None = None,
        metrics_page: Callable[[], bytes] | None = None,
        served_by: bytes = b"",
        upgrade: Upgrade | None = None,
        begin_http2: Http2 | None = None,
    ) -> None:
        """cors: whose pages may read the answers. metrics_page: None where metrics are not installed.

        served_by: what X-Served-By says, b"" for none.
        """
        self.context = context
        self.reader = reader
        self.ready = True
        self.ordinary_size = min(ORDINARY_SIZE, context.config.max_header) if public else 0
        self.public = public
        self.upgrade = upgrade
        self.begin_http2 = begin_http2
        self.http2: object = None
        self._metrics = metrics_page
        self._served_by = served_by
        self._cors = response.cross_origin(cors) if cors else b""
        self._browser_page = browser.page(context.config.controls_prefix) if public else b""
        self._subject_readers: weakref.WeakValueDictionary[bytes, RequestReader] = weakref.WeakValueDictionary()
        self.kubernetes = {
            name.removesuffix("_NAME").removeprefix("POD_").lower(): os.environ[name]
            for name in ("POD_NAME", "POD_NAMESPACE", "NODE_NAME") if name in os.environ
        }  # fmt: skip
        self.tick()

    def tick(self) -> None:
        """Once a sweep: the Date of the responses that come."""
        self.prefix = self.start(200)

    def start(self, status: int) -> bytes:
        """The beginning of a response with a status."""
        return response.prefix(self.context.time, status, self._served_by, self._cors)

    def reader_for(self, certificate: dict[str, Any]) -> RequestReader:
        """What reads for a client with a certificate: its subject goes into each echo."""
        from echoserver.layers import tls_context  # noqa: PLC0415 - few want it

        subject = tls_context.subject(certificate)
        found = self._subject_readers.get(subject)
        if found is None:
            found = self._subject_readers[subject] = self.reader.with_extra(b"X-Client-Subject: %b\r\n" % subject)
        return found

    def answer(self, request: Request, target: bytes) -> tuple[bytes, int, int]:
        """The whole response to a request for a page, how many bytes of content it has, and its status."""
        status, content_type, content, extra = self.page(target)
        start, no_body = self.start(status) + extra + request.extra, request.no_body
        if request.extra:  # OPTIONS asks for no more
            content = b""
        whole = response.page(start, content, request.connection, no_body=no_body, content_type=content_type)
        return whole, 0 if no_body else len(content), status

    def page(self, target: bytes) -> tuple[int, bytes, bytes, bytes]:
        """A page of the server's own: status, type, content, more field lines. /readyz: 503 once a drain has begun."""
        if target == b"/metrics":
            if self._metrics is None:
                return (
                    501,
                    _TEXT,
                    b"501 Not Implemented: metrics are not installed: expected pip install 'echoserver[metrics]'\n",
                    b"",
                )
            try:
                return 200, metrics.CONTENT_TYPE, self._metrics(), b""
            except (ImportError, MemoryError, OSError):
                why = b"metrics cannot be loaded: too little memory, or too few file descriptors"
                return 503, _TEXT, b"503 Service Unavailable: %b\n" % why, b""
        if target == b"/readyz":
            return (200, _TEXT, b"ready\n", b"") if self.ready else (503, _TEXT, b"draining\n", b"")
        if target == BROWSER_PAGE:
            return 200, _HTML, self._browser_page, browser.FIELDS
        return 200, _TEXT, b"ok\n", b""

    # --- its end ---

    def unready(self) -> None:
        """A drain begins: /readyz says so from now on, also to requests that would be echoed."""
        self.ready = False
        for each in (self.reader, *self._subject_readers.values()):
            each.unready = True

    def close(self) -> None:
        """Every answer from now on is its connection's last."""
        for each in (self.reader, *self._subject_readers.values()):
            each.closing = True


def public(context: Context, **given: Any) -> Site:
    """The site of --http and --https."""
    config = context.config
    pages = frozenset() if config.admin else PAGES
    caps = Caps(config.max_delay or math.inf, config.max_size or sys.maxsize, config.controls_prefix.encode())
    cors = config.cors is not None
    asks = Asked(caps if config.controls else None, cors=cors) if config.controls or cors else None
    reader = RequestReader(
        config.max_body, pages=pages | {BROWSER_PAGE} if config.controls else pages, asks=asks,
        preflight=preflight if cors else None,
    )  # fmt: skip
    return Site(context, reader, cors=config.cors, **given)


def admin(context: Context, **given: Any) -> Site:
    """The site of --admin: the server's own pages, and nothing else."""
    return Site(context, RequestReader(context.config.max_body, echoes=False), public=False, **given)
