"""What the HTTP/2 connections of a site share: how blocks are read, and what responses and connections begin with."""

from typing import cast

from echoserver.protocols.http1.site import Site
from echoserver.wire import hpack, http2_frames
from echoserver.wire.http2_reader import Http2Reader
from echoserver.wire.reader import RequestReader

STREAM_WINDOW = 1 << 20
"""Octets of content at most that a client may send on a stream before any of it has gone back."""

_OF_HTTP1 = (b"connection:", b"transfer-encoding:")


class Http2Site:
    """Beside a Site. window, stream_window: octets that a client may send. greeting: the first that a client is sent.

    prefix: the fields of a 200 response that all have, as a block, as of the last refresh(); source: what of.
    """

    __slots__ = ("greeting", "prefix", "site", "source", "stream_window", "window")

    def __init__(self, site: Site) -> None:
        self.site = site
        config = site.context.config
        self.window = min(max(config.buffer_limit, http2_frames.WINDOW), http2_frames.MAX_WINDOW)
        self.stream_window = min(self.window, STREAM_WINDOW)
        values = {
            http2_frames.MAX_CONCURRENT_STREAMS: config.max_streams,
            http2_frames.INITIAL_WINDOW_SIZE: self.stream_window,
            http2_frames.MAX_HEADER_LIST_SIZE: config.max_header,
            http2_frames.NO_RFC7540_PRIORITIES: 1,
        }
        if site.upgrade is not None:
            values[http2_frames.ENABLE_CONNECT_PROTOCOL] = 1
        self.greeting = http2_frames.settings(values)
        if self.window > http2_frames.WINDOW:
            self.greeting += http2_frames.window_update(0, self.window - http2_frames.WINDOW)
        self.source = b""
        self.refresh()

    def refresh(self) -> None:
        """Take over what the site's responses begin with: it changes each second."""
        if self.source is not self.site.prefix:
            self.source = self.site.prefix
            self.prefix = block_of(self.source)

    def reader(self, http1: RequestReader) -> Http2Reader:
        """What reads blocks for the connections that a reader of HTTP/1.1's would read for."""
        if http1.http2 is None:
            http1.http2 = Http2Reader(http1, self.site.context.config.max_header, len(self.prefix))
        return cast(Http2Reader, http1.http2)


def block_of(head: bytes) -> bytes:
    """The head of a response of HTTP/1.1, or the beginning of one, as a block: without what is of its connection."""
    line, _, fields = head.partition(b"\r\n")
    kept = (each for each in fields.split(b"\r\n") if not each.lower().startswith(_OF_HTTP1))
    return hpack.status(line[9:12]) + hpack.lines(b"\r\n".join(kept))
