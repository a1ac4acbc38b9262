"""A header section in, what to answer out (RFC 9112).

llhttp, through httptools, judges the syntax of the fields; the request line and what llhttp leaves to its caller are
checked here: versions, Host, transfer codings, expectations, limits. llhttp knows only some methods; here any token is
one, so it is shown the fields under a request line of ours.
"""

import copy
import functools
import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

import httptools

from echoserver.wire.response import HttpError, fields

MAX_FIELDS = 100
REMEMBERED = 256
"""Sets of lines whose meaning is remembered."""
REMEMBERED_SIZE = 1 << 10
"""Bytes of such a set at most."""

_SLASH, _ONE = b"/1"
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([!-~]+) HTTP/([0-9]\.[0-9])\r\n")
_METHOD_SO_FAR = re.compile(TOKEN + rb"(?:\Z| )")
_METHOD_GOES_ON = re.compile(TOKEN[:-1] + rb"*(?:\Z| )")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LINES_THAT_MATTER = re.compile(
    rb"\r\n(?:host|con(?:tent-(?:length|type|encoding|language)|nection)|transfer-encoding|expect|upgrade|accept):[^\r]*",
    re.IGNORECASE,
)
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[0-9A-Za-z\-._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
_ZONED = re.compile(rb"\[[0-9A-Fa-f:.]+%[^\]]*\](?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+\-.]*)://([^/?#]*)")
_RAW_TARGET = re.compile(TOKEN + rb" [!-~\x80-\xff]+ HTTP/[0-9]\.[0-9]\r\n")
_NOT_IN_TRACE = re.compile(rb"\r\n(?:authorization|proxy-authorization|cookie):[^\r]*", re.IGNORECASE)
_CODED = (b"Content-Encoding", b"Content-Language")
PAGES = frozenset({b"/healthz", b"/readyz", b"/metrics"})
"""What the server answers for itself, by path."""
READY = b"/readyz"
BROWSER_PAGE = b"/.echo"
"""Likewise, where requests may ask for other answers than an echo."""
ASK_FOR_PAGES = frozenset({b"GET", b"HEAD", b"OPTIONS"})
ALLOW = b"Allow: GET, HEAD, OPTIONS\r\n"


class _NoCallbacks:
    """httptools makes only those callbacks that exist; None says so faster than a missing attribute (0.9.0)."""

    on_message_begin = on_url = on_header = on_headers_complete = on_body = None
    on_message_complete = on_chunk_header = on_chunk_complete = None


_NO_CALLBACKS = _NoCallbacks()


Known = dict[bytes, "Fields"]
"""Fields that have been read, under the lines that matter."""


class Fields:
    """What the fields of a header section mean: those few that mean something to this server.

    declared: there is content, of content_length bytes or chunked. has_content: of more bytes than none. content_type:
    with the lines of the other fields that say what the content is, which go back with it (RFC 9110 section 8). close,
    keep_alive: the Connection options. plain: nothing but the content is asked for. json: rather JSON than text is
    accepted. upgrade: to WebSocket is asked for. answer: to a request with content of a known length over HTTP/1.1, the
    rest of the response head after prefix().
    """

    __slots__ = (
        "answer", "chunked", "close", "content_length", "content_type", "declared", "expectations", "has_content",
        "host", "json", "keep_alive", "plain", "upgrade",
    )  # fmt: skip

    def __init__(self, lines: list[bytes], section: bytes) -> None:
        """lines: those of the section that matter, each with the CRLF before it. Raises HttpError."""
        found: dict[bytes, list[bytes]] = {}
        for line in lines:
            name, _, value = line.partition(b":")
            found.setdefault(name[2:].lower(), []).append(value.strip(b" \t"))
        codings = found.get(b"transfer-encoding")
        lengths = found.get(b"content-length")
        self.chunked = _is_chunked(codings, lengths)
        _check_syntax(section)
        self.host = _has_host(found.get(b"host"))
        self.declared = self.chunked or lengths is not None
        self.content_length = int(lengths[0]) if lengths else 0
        self.has_content = self.chunked or self.content_length > 0
        self.content_type = found.get(b"content-type", [b""])[0] or b"application/octet-stream"
        if b"content-encoding" in found or b"content-language" in found:
            self.content_type += _how_it_is_coded(found)
        self.expectations = found.get(b"expect")
        self.json = _prefers_json(found.get(b"accept"))
        options = found.get(b"connection")
        self.close = self.keep_alive = self.upgrade = False
        if options:
            named = _listed(options)
            self.close, self.keep_alive = b"close" in named, b"keep-alive" in named
            # RFC 9110 section 7.8: without the option, Upgrade is ignored
            self.upgrade = b"upgrade" in named and b"websocket" in _listed(found.get(b"upgrade", []))
        self.plain = self.host and not self.close and not self.expectations and not self.upgrade
        self.answer = fields(self.content_type, self.content_length, b"")

    def with_content(self, length: int, *, declared: bool) -> "Fields":
        """The same of HTTP/2, which says in another way whether there is content, and of what length; -1: of any."""
        made = copy.copy(self)
        made.declared, made.chunked, made.content_length = declared, declared and length < 0, max(0, length)
        made.has_content = made.chunked or length > 0
        made.answer = fields(made.content_type, made.content_length, b"")
        return made


def _how_it_is_coded(found: dict[bytes, list[bytes]]) -> bytes:
    """Content-Encoding and Content-Language (RFC 9110 sections 8.4 and 8.5), each line with the CRLF before it.

    Content-Location is none of them: it would say that the content is also to be had there.
    """
    values = {name: b", ".join(filter(None, found.get(name.lower(), ()))) for name in _CODED}
    return b"".join(b"\r\n%b: %b" % each for each in values.items() if each[1])


def _listed(values: list[bytes]) -> list[bytes]:
    """The members of a list in one or more fields, in lower case (RFC 9110 section 5.6.1). Raises HttpError."""
    if sum(value.count(b",") for value in values) >= MAX_FIELDS:  # 30,000 would take 10 ms
        raise HttpError(400, f"Connection and Upgrade must not have more than {MAX_FIELDS} members")
    return [member.strip(b" \t").lower() for member in b",".join(values).split(b",")]


def read_fields(section: bytes, known: Known) -> Fields:
    """Read fields, from the CRLF before the first one to the blank line. Raises HttpError.

    Where only fields differ that do not matter, such as X-Request-Id, their syntax is all that has to be read.
    """
    # the first test, because counting takes longer: there is at least a byte between two line ends
    if len(section) > 3 * MAX_FIELDS and section.count(b"\r\n") > MAX_FIELDS + 2:
        raise HttpError(431, f"the header section has more than {MAX_FIELDS} field lines")
    lines = _LINES_THAT_MATTER.findall(section)
    key = b"".join(lines)
    found = known.get(key)
    if found is not None:
        _check_syntax(section)
        return found
    found = Fields(lines, section)
    if len(key) <= REMEMBERED_SIZE:
        if len(known) >= REMEMBERED:
            known.clear()
        known[key] = found
    return found


_NAME_AND_VALUE = "a field line must be Name: value, and the name a token (RFC 9110 section 5.1)"
_SYNTAX = {
    "Invalid header token": _NAME_AND_VALUE,
    "Invalid header field char": _NAME_AND_VALUE,
    "Unexpected space after start line": _NAME_AND_VALUE,
    "Invalid header value char": "a field value must not have control characters",
    "Missing expected CR after header value": "a field line must end in CRLF",
    "Missing expected LF after header value": "a field line must end in CRLF",
    "Unexpected whitespace after header value": "a field value must not be folded onto another line",
    "Invalid character in Content-Length": "Content-Length must be a decimal number",
    "Empty Content-Length": "Content-Length must be a decimal number, it is empty",
    "Content-Length overflow": "Content-Length must be less than 2^64",
    "Duplicate Content-Length": "a request must not have more than one Content-Length field",
}
"""What llhttp says of header sections, and what there is to say of them to somebody who has never heard of llhttp."""


def _check_syntax(section: bytes) -> None:
    """Refuses what llhttp does."""
    try:
        httptools.HttpRequestParser(_NO_CALLBACKS).feed_data(b"POST / HTTP/1.1" + section)
    except httptools.HttpParserUpgrade:
        pass  # it means one to a WebSocket or none: content, if any, is read as if Upgrade were not there
    except httptools.HttpParserError as error:
        raise HttpError(400, _SYNTAX.get(str(error), f"the header section is malformed: {error}")) from None


def _is_chunked(codings: list[bytes] | None, lengths: list[bytes] | None) -> bool:
    """Refuses what makes the content's length doubtful (RFC 9112 sections 6.1 and 6.3)."""
    if codings is None:
        return False
    if lengths is not None:
        raise HttpError(400, "a request must not have both Content-Length and Transfer-Encoding")
    if b",".join(codings).lower() == b"chunked":
        return True
    listed = _listed(codings)
    # an empty member might be ignored (RFC 9110 section 5.6.1.2), but a proxy before us may not see it as we do
    if listed[-1] != b"chunked" or listed.count(b"chunked") > 1 or b"" in listed:
        raise HttpError(400, "Transfer-Encoding must name chunked once, as the last coding, and have no empty members")
    raise HttpError(501, "the only transfer coding supported is chunked")


def _has_host(hosts: list[bytes] | None) -> bool:
    """RFC 9112 section 3.2: one Host at most, and what it says is a host."""
    if hosts is None:
        return False
    if len(hosts) > 1:
        raise HttpError(400, "a request must not have more than one Host field")
    check_host(hosts[0], "the Host field")
    return True


def check_host(host: bytes, where: str) -> None:
    """RFC 9110 section 4.2: a host, perhaps with a port. Zones of IPv6 addresses are for user interfaces (RFC 9844)."""
    if _HOST.fullmatch(host):
        return
    if _ZONED.fullmatch(host):
        raise HttpError(400, f"{where} must not have an IPv6 zone (%...): only the client's machine knows it")
    raise HttpError(400, f"{where} must be HOST or HOST:PORT")


_WEIGHT = re.compile(rb"(?:^|;)[ \t]*q=([01](?:\.[0-9]{0,3})?)[ \t]*(?:$|;)", re.IGNORECASE)


def _prefers_json(lines: list[bytes] | None) -> bool:
    """Whether Accept (RFC 9110 section 12.5.1) names application/json, and plain text as nothing better."""
    if lines is None or b"/json" not in (accept := b",".join(lines).lower()):
        return False
    weights: dict[bytes, float] = {}
    for each in accept.split(b",", MAX_FIELDS)[:MAX_FIELDS]:
        media_type, _, parameters = each.partition(b";")
        weight = _WEIGHT.search(parameters)
        weights.setdefault(media_type.strip(b" \t"), float(weight[1]) if weight else 1.0)
    json = weights.get(b"application/json", 0.0)
    if not json:
        return False
    text = next((weights[each] for each in (b"text/plain", b"text/*", b"*/*") if each in weights), 0.0)
    named = list(weights)
    first = b"text/plain" not in weights or named.index(b"application/json") < named.index(b"text/plain")
    return json > text or (json == text and first)


class Request:
    """One header section, read: what its content is and what to answer.

    head: the section itself, its blank line included. size: head and content together, -1 where the content has to be
    looked at (chunked, Expect, pages of our own), and where the connection becomes a WebSocket's (upgrade).
    content_length: bytes; 0 also for chunked and for none. content_type: as in Fields, b"" for no content. answer: the
    rest of the response head after prefix(), and to a request without content the echo of its head. echoed: bytes of
    content in the answer, where that is known. extra: field lines that go into the answer. probe: it is to be echoed
    only as long as the server is ready. controls: what is asked for besides an echo.
    """

    __slots__ = (
        "answer", "chunked", "connection", "content_length", "content_type", "controls", "echoed", "expects", "extra",
        "head", "head_size", "keep_alive", "no_body", "page", "probe", "size", "upgrade",
    )  # fmt: skip

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.head_size = len(head)
        self.size = -1
        self.content_length = self.echoed = 0
        self.content_type = self.connection = self.answer = self.extra = b""
        self.chunked = self.expects = self.probe = self.no_body = self.upgrade = False
        self.keep_alive = True
        self.page: bytes | None = None
        self.controls: Any = None

    def as_last(self) -> "Request":
        """The same, but the connection is closed after the answer: content is still to come, and the server to stop."""
        last = Request(self.head)
        last.content_length, last.content_type = self.content_length, self.content_type
        last.chunked, last.expects, last.no_body = self.chunked, self.expects, self.no_body
        last.keep_alive, last.connection, last.extra, last.echoed = False, b"close", self.extra, self.echoed
        last.controls = self.controls
        last.answer = fields(self.content_type, self.content_length, last.connection, self.extra)
        return last


class Asks(Protocol):
    """What requests ask for besides an echo, for whoever answers it."""

    def __call__(self, request: Request, found: Fields) -> Any:
        """What one asks for, None for nothing. Raises HttpError."""

    def names(self, query: bytes) -> bool:
        """Whether a query may ask for anything."""


Preflight = Callable[[bytes], bytes]
"""What a header section is allowed across origins, as field lines; b"" where it is none of a preflight request."""

NO_REQUEST = Request(b"\0")
"""Stands for no request: none begins with its head."""


def read(
    head: bytes, known: Known | None = None, *,
    max_body: int = 0, closing: bool = False, pages: AbstractSet[bytes] = PAGES, extra: bytes = b"",
    asks: Asks | None = None, preflight: Preflight | None = None,
) -> Request:  # fmt: skip
    """Read a whole header section, from the request line to the blank line. Raises HttpError.

    known: fields that have been read, and will be remembered there: clients repeat themselves. max_body: the longest
    content in bytes, 0 for any. closing: the answer is the connection's last in any case. pages: paths that are the
    server's own. extra: field lines that go into every echo. asks: says what a request asks for
    besides an echo; it is asked where there is a query, or another method or Accept than usual. preflight: says what a
    preflight request is allowed.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise _not_a_request_line(head)
    method, target, version = line.groups()
    if version[0] != _ONE:
        raise HttpError(505, f"HTTP/{version.decode()} is not supported: expected HTTP/1.1 or HTTP/1.0")
    found = read_fields(head[line.end() - 2 :], {} if known is None else known)
    return interpret(
        Request(head), method, target, version, found,
        max_body=max_body, closing=closing, pages=pages, extra=extra, asks=asks, preflight=preflight,
    )  # fmt: skip


def interpret(
    request: Request, method: bytes, target: bytes, version: bytes, found: Fields, *,
    max_body: int, closing: bool, pages: AbstractSet[bytes], extra: bytes,
    asks: Asks | None, preflight: Preflight | None,
) -> Request:  # fmt: skip
    """What a request is answered with whose header section has been read: by any version of HTTP; as in read()."""
    request.extra = extra
    if closing or not found.plain or version == b"1.0":
        _apply_options(request, found, version, closing)
        request.upgrade = found.upgrade and method == b"GET" and version != b"1.0" and not found.has_content
    query = b"?" in target
    path = target
    if query or target[0] != _SLASH or method == b"CONNECT":
        path = path_of(method, target)
    if path in pages and _is_for_page(request, method, path, found, preflight):
        return request
    if asks is not None and (query or found.json or method == b"OPTIONS"):
        request.controls = asks(request, found)
    if request.upgrade:
        return request
    if found.declared:
        _answer_content(request, method, found, max_body)
    else:
        _answer_head(request, method)
    if request.controls is not None or request.probe:
        request.size = -1
    if method == b"HEAD":
        request.no_body = True
        request.echoed = 0
    return request


def _not_a_request_line(head: bytes | bytearray = b"") -> HttpError:
    if _RAW_TARGET.match(head):
        return HttpError(
            400, "the request target has bytes that are not ASCII: expected them percent-encoded, as in %C3%A9"
        )
    return HttpError(400, "the request line is not METHOD SP TARGET SP HTTP/1.1 CRLF")


def _apply_options(request: Request, found: Fields, version: bytes, closing: bool) -> None:
    """What HTTP/1.0 does otherwise, and what the fields ask for besides: to close, to go on, to wait for a 100."""
    old = version == b"1.0"
    if not found.host and not old:
        raise HttpError(400, "an HTTP/1.1 request must have a Host field")
    if found.chunked and old:
        raise HttpError(400, "an HTTP/1.0 request must not have Transfer-Encoding")
    if found.expectations and not old:
        if b",".join(found.expectations).lower() != b"100-continue":
            raise HttpError(417, "the only expectation supported is 100-continue")
        request.expects = found.chunked or found.content_length > 0
    if closing or found.close or (old and not found.keep_alive):
        request.keep_alive = False
        request.connection = b"close"
    elif old:
        request.connection = b"keep-alive"


def _is_for_page(request: Request, method: bytes, path: bytes, found: Fields, preflight: Preflight | None) -> bool:
    """Whether a page of the server's own answers a request to its path: to OPTIONS, what may be asked of it."""
    if method not in ASK_FOR_PAGES or found.has_content:
        request.probe = path == READY
        return False
    request.page = path
    request.upgrade = False
    request.no_body = method == b"HEAD"
    request.extra = b""
    if method == b"OPTIONS":
        request.extra = ALLOW + (preflight(request.head) if preflight is not None else b"")
    return True


def path_of(method: bytes, target: bytes) -> bytes:
    """Of a target, without the query; raises HttpError where there is none.

    RFC 9112 section 3.2: what does not begin with a slash is a URI, an asterisk, or what CONNECT connects to.
    """
    if method == b"CONNECT":
        raise HttpError(501, "CONNECT is not supported: an echo server opens no tunnels")
    if target[:1] == b"/":
        return target.partition(b"?")[0]
    if target == b"*":
        if method != b"OPTIONS":
            raise HttpError(400, "the request target * must be used with OPTIONS only (RFC 9112 section 3.2.4)")
        return target
    uri = _ABSOLUTE.match(target)
    if uri is None:
        raise _not_a_request_line()
    scheme, authority = uri.groups()
    if scheme.lower() not in {b"http", b"https"}:
        raise HttpError(400, "the scheme of the request target must be http or https")
    if b"@" in authority:
        raise HttpError(400, "the request target must not have a user before its host (RFC 9110 section 4.2.4)")
    if not authority or authority[:1] == b":":
        raise HttpError(400, "the request target must have a host after its scheme (RFC 9110 section 4.2.1)")
    check_host(authority, "the host in the request target")
    return target[uri.end() :].partition(b"?")[0]


def _answer_content(request: Request, method: bytes, found: Fields, max_body: int) -> None:
    length = found.content_length
    if method == b"TRACE":
        if found.has_content:
            raise HttpError(400, "a TRACE request must not have content (RFC 9110 section 9.3.8)")
        _answer_head(request, method)
        return
    if max_body and length > max_body:
        raise HttpError(413, f"the content has {length} bytes: expected at most {max_body} (--max-body)")
    request.content_type = found.content_type
    request.content_length = length
    request.chunked = found.chunked
    request.echoed = length
    request.answer = found.answer
    if request.connection or request.extra:
        request.answer = fields(found.content_type, length, request.connection, request.extra)
    if not request.chunked and not request.expects:
        request.size = request.head_size + length


@functools.lru_cache(1024)
def _echo_fields(length: int, connection: bytes, extra: bytes) -> bytes:
    return fields(b"text/plain", length, connection, extra)


def echo_of_head(head: bytes) -> tuple[bytes, bytes]:
    """Content type and content of the echo of a header section; that of TRACE is without what is secret."""
    if head.startswith(b"TRACE "):
        return b"message/http", _NOT_IN_TRACE.sub(b"", head)
    if head.startswith(b"HEAD "):  # as long as that of the same GET
        return b"text/plain", head[1:]
    return b"text/plain", head


def _answer_head(request: Request, method: bytes) -> None:
    """The answer to a request without content: its own head."""
    request.size = request.head_size
    if method == b"TRACE":
        content_type, echo = echo_of_head(request.head)
        request.echoed = len(echo)
        request.answer = fields(content_type, len(echo), request.connection, request.extra) + echo
    elif method == b"HEAD":
        request.answer = _echo_fields(request.head_size - 1, request.connection, request.extra)
    else:
        request.echoed = request.head_size
        request.answer = _echo_fields(request.head_size, request.connection, request.extra) + request.head


_EMPTY_LINES = b"\r\n" * 512


def skip_empty_lines(data: bytes | bytearray, position: int) -> int:
    """Where in data, from position on, there is something other than an empty line (RFC 9112 section 2.2)."""
    while data.startswith(_EMPTY_LINES, position):
        position += len(_EMPTY_LINES)
    while data.startswith(b"\r\n", position):
        position += 2
    return position


def check_partial_head(pending: bytearray, looked_at: int, max_header: int) -> None:
    """Refuse the beginning of a header section as soon as it can't become one; the first looked_at bytes were seen."""
    # no part is looked at again with each byte that comes: 64 KiB of them would take half a minute
    method = _METHOD_GOES_ON if looked_at else _METHOD_SO_FAR
    if pending.find(b" ", 0, looked_at) < 0 and not method.match(pending, looked_at):
        raise HttpError(400, "this is not an HTTP request: expected a method, such as GET, and a space")
    if _BARE_LF.search(pending, looked_at):
        raise HttpError(400, "a line of the header section does not end in CRLF")
    first_line_ends = pending.find(b"\r\n", 0, looked_at) < 0 <= pending.find(b"\r\n", max(0, looked_at - 1))
    if first_line_ends and not _REQUEST_LINE.match(pending):
        raise _not_a_request_line(pending)
    if len(pending) > max_header:
        raise too_long(pending, max_header)


def too_long(head: bytes | bytearray, max_header: int) -> HttpError:
    """For a header section of more than max_header bytes: 414 where its request line alone is as long, else 431."""
    if head.find(b"\r\n", 0, max_header) < 0:
        return HttpError(414, f"the request line is longer than {max_header} bytes")
    return HttpError(431, f"the header section is longer than {max_header} bytes")
