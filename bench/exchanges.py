"""What the server must answer to what the benchmarks send (bench.loads), spelled out here and not asked of its code."""

import re
import socket
from collections.abc import Callable

Measure = Callable[[Callable[[], object], Callable[[int], None]], None]
"""measure(exchange, check): time exchange(), which sends a request and takes its answer. check(n), untimed and called
after each round, asserts that the n exchanges since the last check were answered, and the last of them rightly."""

_DATE = re.compile(rb"\r\nDate: (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT(?=\r\n)")
_EPOCH = b"Date: Thu, 01 Jan 1970 00:00:00 GMT"

SERVED_BY = f"{socket.gethostname()}:0".encode()
"""Who answers: this host, its first worker."""


def answer(
    content: bytes,
    content_type: bytes = b"application/octet-stream",
    status: bytes = b"200 OK",
    connection: bytes | None = None,
    *,
    chunks: tuple[bytes, ...] = (),
) -> bytes:
    """A whole response, of the epoch's Date; chunks: what is sent as such, instead of content."""
    head = [
        b"HTTP/1.1 " + status, b"Server: echoserver", _EPOCH,
        b"X-Served-By: " + SERVED_BY, b"Content-Type: " + content_type,
        b"X-Content-Type-Options: nosniff",
        b"Transfer-Encoding: chunked" if chunks else b"Content-Length: %d" % len(content),
    ]  # fmt: skip
    if connection:
        head.append(b"Connection: " + connection)
    return b"\r\n".join([*head, b"", in_chunks(*chunks) if chunks else content])


def in_chunks(*chunks: bytes) -> bytes:
    """Chunked content (RFC 9112 section 7.1)."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def echo(request: bytes) -> bytes:
    """The answer to a request without content."""
    return answer(request, b"text/plain")


def undated(messages: bytes) -> bytes:
    """The same as of the epoch, so that answers can be compared whenever they were made."""
    return _DATE.sub(b"\r\n" + _EPOCH, messages)


def bytes_of(size: int) -> str:
    """How tables name a size."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"
