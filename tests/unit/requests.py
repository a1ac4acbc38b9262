"""Requests to transports in memory, and the responses that they get."""

from tests.servers import chunks

BINARY = b"application/octet-stream"


def get(path: bytes = b"/", *fields: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join((b"%b %b HTTP/%b" % (method, path, version), b"Host: x", *fields, b"", b""))


def post(content: bytes, *fields: bytes, method: bytes = b"POST", version: bytes = b"1.1") -> bytes:
    return get(b"/post", *fields, b"Content-Length: %d" % len(content), method=method, version=version) + content


def chunked(
    *contents: bytes, fields: tuple[bytes, ...] = (), end: bytes = b"0\r\n\r\n", method: bytes = b"POST"
) -> bytes:
    head = get(b"/chunked", *fields, b"Transfer-Encoding: chunked", method=method)
    return head + chunks(*contents) + end


def response(status: bytes, content_type: bytes, content: bytes, connection: bytes = b"") -> bytes:
    """A whole response without its Date and X-Served-By."""
    said = b"Connection: %b\r\n" % connection if connection else b""
    return (
        b"HTTP/1.1 %b\r\nServer: echoserver\r\nContent-Type: %b\r\nX-Content-Type-Options: nosniff\r\n"
        b"Content-Length: %d\r\n%b\r\n%b" % (status, content_type, len(content), said, content)
    )


def echo(request: bytes, connection: bytes = b"") -> bytes:
    return response(b"200 OK", b"text/plain", request, connection)


def content_of(content: bytes, content_type: bytes = BINARY, connection: bytes = b"") -> bytes:
    return response(b"200 OK", content_type, content, connection)


def page(status: bytes, text: bytes, connection: bytes = b"") -> bytes:
    return response(status, b"text/plain; charset=utf-8", text + b"\n", connection)


def refused(status: bytes, reason: bytes) -> bytes:
    return page(status, b"%b: %b" % (status, reason), b"close")


def head_of(whole: bytes) -> bytes:
    return whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
