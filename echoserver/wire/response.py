"""Response heads, prebuilt as far as they can be, and the error responses."""

import time
from collections.abc import Set as AbstractSet

NO_SNIFF = b"X-Content-Type-Options: nosniff\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_REASONS = {  # RFC 9110 section 15, and the registry of IANA
    101: "Switching Protocols", 200: "OK", 201: "Created", 202: "Accepted", 203: "Non-Authoritative Information",
    204: "No Content",
    205: "Reset Content", 206: "Partial Content", 207: "Multi-Status", 208: "Already Reported", 226: "IM Used",
    300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
    305: "Use Proxy", 307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized",
    402: "Payment Required", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable",
    407: "Proxy Authentication Required", 408: "Request Timeout", 409: "Conflict", 410: "Gone",
    411: "Length Required", 412: "Precondition Failed", 413: "Content Too Large", 414: "URI Too Long",
    415: "Unsupported Media Type", 416: "Range Not Satisfiable", 417: "Expectation Failed",
    421: "Misdirected Request", 422: "Unprocessable Content", 423: "Locked", 424: "Failed Dependency",
    425: "Too Early", 426: "Upgrade Required", 428: "Precondition Required", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 451: "Unavailable For Legal Reasons", 500: "Internal Server Error",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
    505: "HTTP Version Not Supported", 506: "Variant Also Negotiates", 507: "Insufficient Storage",
    508: "Loop Detected", 510: "Not Extended", 511: "Network Authentication Required",
}  # fmt: skip


class HttpError(Exception):
    """A request that gets an error response and no echo: its status and, for a person, why; extra: field lines."""

    def __init__(self, status: int, reason: str, extra: bytes = b"") -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.extra = extra


def prefix(seconds: float, status: int = 200, served_by: bytes = b"", extra: bytes = b"") -> bytes:
    """The status line, Server and Date (RFC 9110 section 6.6.1) at a time in seconds since the epoch.

    served_by: the host and worker that X-Served-By names, b"" for none. extra: field lines that every response has.
    """
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))
    named = b"X-Served-By: %b\r\n" % served_by if served_by else b""
    return (
        f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\nServer: echoserver\r\nDate: {date}\r\n".encode()
        + named
        + extra
    )


def cross_origin(origin: str) -> bytes:
    """Field lines that let pages of an origin, or of any ("*"), read a response (CORS, Fetch section 3.3)."""
    return f"Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Expose-Headers: *\r\n".encode()


def fields(content_type: bytes, length: int | None, connection: bytes, extra: bytes = b"") -> bytes:
    """The rest of a head, after prefix(): length None for chunked, connection "" where nothing need be said.

    extra: more field lines.
    """
    framing = b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
    said = b"Connection: %b\r\n" % connection if connection else b""
    return b"Content-Type: %b\r\n%b%b%b%b\r\n" % (content_type, NO_SNIFF, framing, said, extra)


def around_length(content_type: bytes, connection: bytes, extra: bytes) -> tuple[bytes, bytes]:
    """fields() before and behind the length."""
    said = b"Connection: %b\r\n" % connection if connection else b""
    return b"Content-Type: %b\r\n%bContent-Length: " % (content_type, NO_SNIFF), b"\r\n%b%b\r\n" % (said, extra)


def no_content(status: int, connection: bytes, extra: bytes = b"") -> bytes:
    """The same for a status that has no content (RFC 9110 section 8.6: 205 says so, 204 and 304 do not)."""
    framing = b"Content-Length: 0\r\n" if status == 205 else b""
    said = b"Connection: %b\r\n" % connection if connection else b""
    return b"%b%b%b\r\n" % (framing, said, extra)


def chunk(content: bytes) -> bytes:
    """Content, not empty, as one chunk (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def page(
    start: bytes, content: bytes, connection: bytes = b"", *,
    no_body: bool = False, content_type: bytes = b"text/plain; charset=utf-8",
) -> bytes:  # fmt: skip
    """A whole response that begins with prefix(); no_body: without the content, as HEAD wants it."""
    head = start + fields(content_type, len(content), connection)
    return head if no_body else head + content


def error(start: bytes, error: HttpError, *, no_body: bool = False) -> bytes:
    """The error response, with why it is one as a line of text; the connection closes after it."""
    content = f"{error.status} {_REASONS[error.status]}: {error.reason}\n".encode()
    return page(start + error.extra, content, b"close", no_body=no_body)


def without(head: bytes, names: AbstractSet[bytes]) -> bytes:
    """A head, or the beginning of one, without the fields of these names (in lower case)."""
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if line.partition(b":")[0].lower() not in names)
