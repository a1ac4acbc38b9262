"""A header section in, what to answer out (RFC 9112).

llhttp, through httptools, judges the syntax of the whole section; what it leaves to its caller is checked here: Host,
transfer codings, expectations, versions, limits. Where llhttp knows only some methods, any token is one here.
"""

import re

import httptools

from echoserver.messages.response import Refusal, fields

MAX_FIELDS = 100

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([^\x00-\x20\x7f]+) HTTP/([0-9])\.([0-9])\r\n")
_METHOD_SO_FAR = re.compile(_TOKEN + rb"(?:\Z| )")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_FIELD = re.compile(
    rb"\r\n(host|content-length|content-type|transfer-encoding|connection|expect):[ \t]*([^\r]*)", re.IGNORECASE
)
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[0-9A-Za-z\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
_NOT_IN_TRACE = re.compile(rb"\r\n(?:authorization|proxy-authorization|cookie):[^\r]*", re.IGNORECASE)
_PAGES = {b"/healthz", b"/readyz"}


class _NoCallbacks:
    """httptools makes only those callbacks that exist; None says so faster than a missing attribute (0.9.0)."""

    on_message_begin = on_url = on_header = on_headers_complete = on_body = None
    on_message_complete = on_chunk_header = on_chunk_complete = None


_NO_CALLBACKS = _NoCallbacks()


class Request:
    """One header section, read: what its content is and what to answer.

    head: the section itself, its blank line included. content_length: bytes; 0 also for chunked and for none.
    size: head and content together, -1 where the content has to be looked at (chunked, Expect, pages of our own).
    answer: the rest of the response head after prefix(), and for a request without content the echo of its head.
    """

    __slots__ = (
        "answer", "chunked", "connection", "content_length", "content_type", "expects", "head", "head_size",
        "keep_alive", "page", "silent", "size",
    )  # fmt: skip

    def __init__(self) -> None:
        self.head = b"\0"  # what no request begins with: NO_REQUEST
        self.head_size = 1
        self.size = -1
        self.content_length = 0
        self.content_type = b""
        self.answer = b""
        self.connection = b""
        self.chunked = self.expects = self.silent = self.keep_alive = False
        self.page: bytes | None = None


NO_REQUEST = Request()


def read(head: bytes, *, max_body: int = 0, closing: bool = False) -> Request:
    """Read a whole header section, from the request line to the blank line. Raises Refusal.

    max_body: the longest content in bytes, 0 for any. closing: the answer is the connection's last in any case.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise Refusal(400, "the request line is not METHOD SP TARGET SP HTTP/1.1 CRLF")
    method, target, major, minor = line.groups()
    if major != b"1":
        raise Refusal(505, f"HTTP/{major.decode()}.{minor.decode()} is not spoken here, HTTP/1.1 and HTTP/1.0 are")
    if head.count(b"\r\n") > MAX_FIELDS + 2:
        raise Refusal(431, f"more than {MAX_FIELDS} fields in the header section")
    found: dict[bytes, list[bytes]] = {}
    for name, value in _FIELD.findall(head):
        found.setdefault(name.lower(), []).append(value.rstrip(b" \t"))
    codings = _check_framing(found, minor)
    _check_syntax(head, line)
    _check_host(found.get(b"host", []), minor)
    if method == b"CONNECT":
        raise Refusal(501, "no tunnels (CONNECT) through an echo server")
    declared = codings or b"content-length" in found
    if method == b"TRACE" and declared:
        raise Refusal(400, "a TRACE request has no content (RFC 9110 section 9.3.8)")

    request = Request()
    request.head = head
    request.head_size = len(head)
    request.silent = method == b"HEAD"
    request.chunked = bool(codings)
    request.keep_alive, request.connection = _persistence(found.get(b"connection", []), minor, closing)
    request.expects = minor != b"0" and _expects_continue(found.get(b"expect", []))
    if declared:
        request.content_length = int(found[b"content-length"][0]) if not codings else 0
        if max_body and request.content_length > max_body:
            raise Refusal(413, f"content of {request.content_length} bytes, at most {max_body} are taken")
        request.content_type = found.get(b"content-type", [b""])[0] or b"application/octet-stream"
        request.answer = fields(request.content_type, request.content_length, request.connection)
        if not codings and not request.expects:
            request.size = request.head_size + request.content_length
    elif target in _PAGES and method in (b"GET", b"HEAD"):
        request.page = target
    else:
        _echo_head(request, method)
        request.size = request.head_size
    return request


def _check_framing(found: dict[bytes, list[bytes]], minor: bytes) -> bool:
    """Whether the content is chunked. Refuses what makes its length doubtful (RFC 9112 sections 6.1 and 6.3)."""
    codings = found.get(b"transfer-encoding")
    if codings is None:
        return False
    if b"content-length" in found:
        raise Refusal(400, "both Content-Length and Transfer-Encoding")
    if minor == b"0":
        raise Refusal(400, "Transfer-Encoding in an HTTP/1.0 request")
    joined = b",".join(codings).lower()
    if joined != b"chunked":
        raise Refusal(501, "a transfer coding other than chunked")
    return True


def _check_syntax(head: bytes, line: "re.Match[bytes]") -> None:
    """Let llhttp judge the section. It knows only some methods and versions: any token, any 1.x is put right first."""
    parser = httptools.HttpRequestParser(_NO_CALLBACKS)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        return  # nothing is upgraded here: the content, if any, is read as if Upgrade were not there
    except httptools.HttpParserError as error:
        known = b"POST %b HTTP/1.1\r\n%b" % (line[2], head[line.end() :])
        if head.startswith(known[: line.end()]):
            raise Refusal(400, _sentence(error)) from None
        try:
            httptools.HttpRequestParser(_NO_CALLBACKS).feed_data(known)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserError as again:
            raise Refusal(400, _sentence(again)) from None


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]


def _check_host(hosts: list[bytes], minor: bytes) -> None:
    """RFC 9112 section 3.2: one Host, none only before 1.1, and what it says is a host."""
    if len(hosts) > 1:
        raise Refusal(400, "more than one Host field")
    if not hosts and minor != b"0":
        raise Refusal(400, "no Host field")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise Refusal(400, "the Host field is not a host and a port")


def _persistence(connection: list[bytes], minor: bytes, closing: bool) -> tuple[bool, bytes]:
    """Whether the connection stays open, and what the answer's Connection field says (RFC 9112 section 9.3)."""
    options = {option.strip(b" \t").lower() for option in b",".join(connection).split(b",")}
    if closing or b"close" in options:
        return False, b"close"
    if minor != b"0":
        return True, b""
    return (True, b"keep-alive") if b"keep-alive" in options else (False, b"close")


def _expects_continue(expectations: list[bytes]) -> bool:
    if not expectations:
        return False
    if b",".join(expectations).lower() != b"100-continue":
        raise Refusal(417, "an expectation other than 100-continue")
    return True


def _echo_head(request: Request, method: bytes) -> None:
    """The answer to a request without content: its own head."""
    echo, content_type = request.head, b"text/plain"
    if method == b"TRACE":
        echo, content_type = _NOT_IN_TRACE.sub(b"", echo), b"message/http"
    length = len(echo) - 1 if request.silent else len(echo)  # HEAD: as long as the echo of the same GET
    request.content_type = content_type
    request.answer = fields(content_type, length, request.connection) + (b"" if request.silent else echo)


def look_at(pending: bytearray, looked_at: int, max_header: int) -> None:
    """Refuse the beginning of a header section as soon as it can't become one; the first looked_at bytes were seen."""
    if not _METHOD_SO_FAR.match(pending):
        raise Refusal(400, "this does not begin as an HTTP request does")
    if _BARE_LF.search(pending, looked_at):
        raise Refusal(400, "a line of the header section does not end in CRLF")
    end = pending.find(b"\r\n")
    if end >= 0 and not _REQUEST_LINE.match(pending):
        raise Refusal(400, "the request line is not METHOD SP TARGET SP HTTP/1.1 CRLF")
    check_size(pending, len(pending), max_header)


def check_size(head: bytes | bytearray, size: int, max_header: int) -> None:
    """Refuse a header section of more than max_header bytes: 414 where its request line alone is as long."""
    if size > max_header:
        if head.find(b"\r\n", 0, max_header) < 0:
            raise Refusal(414, f"the request line is longer than {max_header} bytes")
        raise Refusal(431, f"the header section is longer than {max_header} bytes")
