"""Response heads, prebuilt as far as they can be, and the error responses."""

import time

NO_SNIFF = b"X-Content-Type-Options: nosniff\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_REASONS = {
    101: "Switching Protocols", 200: "OK", 400: "Bad Request", 404: "Not Found", 408: "Request Timeout",
    413: "Content Too Large", 414: "URI Too Long", 417: "Expectation Failed", 431: "Request Header Fields Too Large",
    501: "Not Implemented", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip


class Refusal(Exception):
    """A request that gets an error response and no echo: its status and, for a person, why; extra: field lines."""

    def __init__(self, status: int, reason: str, extra: bytes = b"") -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.extra = extra


def prefix(seconds: float, status: int = 200, served_by: bytes = b"") -> bytes:
    """The status line, Server and Date (RFC 9110 section 6.6.1) at a time in seconds since the epoch.

    served_by: the host and worker that X-Served-By names, b"" for none.
    """
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))
    named = b"X-Served-By: %b\r\n" % served_by if served_by else b""
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\nServer: echoserver\r\nDate: {date}\r\n".encode() + named


def fields(content_type: bytes, length: int | None, connection: bytes, extra: bytes = b"") -> bytes:
    """The rest of a head, after prefix(): length None for chunked, connection "" where nothing need be said.

    extra: more field lines.
    """
    framing = b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
    said = b"Connection: %b\r\n" % connection if connection else b""
    return b"Content-Type: %b\r\n%b%b%b%b\r\n" % (content_type, NO_SNIFF, framing, said, extra)


def chunk(content: bytes) -> bytes:
    """Content, not empty, as one chunk (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def page(
    start: bytes, content: bytes, connection: bytes = b"", *,
    silent: bool = False, content_type: bytes = b"text/plain; charset=utf-8",
) -> bytes:  # fmt: skip
    """A whole response that begins with prefix(); silent: without the content, as HEAD wants it."""
    head = start + fields(content_type, len(content), connection)
    return head if silent else head + content


def refusal(start: bytes, error: Refusal, *, silent: bool = False) -> bytes:
    """The error response, with why it is one as a line of text; the connection closes after it."""
    content = f"{error.status} {_REASONS[error.status]}: {error.reason}\n".encode()
    return page(start + error.extra, content, b"close", silent=silent)
