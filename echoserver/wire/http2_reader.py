"""A block of HTTP/2 in, what to answer out: header sections as RFC 9113 section 8 has them.

They become the text that HTTP/1.1 would have sent, and mean what it would have meant (wire/request.py). Clients say the
same again and again: what a block means after a table is remembered, where it is an ordinary request.
"""

import re

from echoserver.wire import grpc_messages, hpack, http2_frames
from echoserver.wire.hpack import ENTRY, Decoder, Field, Table
from echoserver.wire.reader import RequestReader
from echoserver.wire.request import MAX_FIELDS, REMEMBERED, REMEMBERED_SIZE, TOKEN, Fields, Request, check_host
from echoserver.wire.response import HttpError

_PLAIN, _DECIDES, _GRPC, _TE, _LENGTH, _HOST, _METHOD, _SCHEME, _PATH, _AUTHORITY, _PROTOCOL, _MALFORMED = range(12)
"""What a field is: for the echo only; it decides about the answer; or one of those that are read here."""
_PSEUDO = {
    b":method": _METHOD, b":scheme": _SCHEME, b":path": _PATH, b":authority": _AUTHORITY, b":protocol": _PROTOCOL
}  # fmt: skip
_KINDS = {
    **dict.fromkeys((b"content-type", b"content-encoding", b"content-language", b"expect", b"accept"), _DECIDES),
    **dict.fromkeys((b"x-echo", b"grpc-timeout", b"grpc-encoding"), _GRPC),
    b"content-length": _LENGTH, b"host": _HOST, b"te": _TE,
}  # fmt: skip
_MAY_TRAIL = (_PLAIN, _GRPC)
_OF_A_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_TOKEN = re.compile(TOKEN)
_TARGET = re.compile(rb"[!-~]+")
_SCHEME_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*")
_DIGITS = re.compile(rb"[0-9]{1,19}")
_GRPC_TYPE = re.compile(rb"application/grpc(?=\Z|[+;\r])", re.IGNORECASE)
_ORDINARY = frozenset({b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"})
_NAME_SIZE = 64  # bytes of a name at most that is remembered
_MEMORIES = 256  # blocks that are remembered
_BLOCK_SIZE = 1 << 10  # bytes of each at most
_TEXT_SIZE = 4 << 10  # bytes of what it stands for: a reference of one octet may be to thousands
_SPREE = 4
"""How many times as much as a request may have is still decoded, to tell its client so: more ends the connection."""


_lines: dict[bytes, int] = {}
"""Of those names that only need a look at the value."""
_kinds: dict[bytes, int] = {}
"""Of names that have been read."""


def _kind_of(name: bytes) -> int:
    """What a field is by its name."""
    if name[:1] == b":":
        kind = _PSEUDO.get(name, _MALFORMED)
    elif not _NAME.fullmatch(name) or name in _OF_A_CONNECTION:
        kind = _MALFORMED
    else:
        kind = _KINDS.get(name, _PLAIN)
    if len(name) <= _NAME_SIZE:
        if len(_kinds) >= REMEMBERED:
            _kinds.clear()
            _lines.clear()
        _kinds[name] = kind
        if kind <= _GRPC:
            _lines[name] = kind
    return kind


def make_field(name: bytes, value: bytes) -> Field:
    """A field, with its line in an echo (of a pseudo-field: its value; of a malformed one: why), and what it is."""
    kind = _kinds.get(name, -1)
    if kind < 0:
        kind = _kind_of(name)
    size = len(name) + len(value) + ENTRY
    if kind > _HOST:
        return name, value, *_pseudo(name, value, kind), size
    if not _VALUE.fullmatch(value):
        why = b"a field value must not have control characters, nor blanks at its ends"
        return name, value, why, _MALFORMED, size
    if kind == _LENGTH and not _DIGITS.fullmatch(value):
        return name, value, b"content-length must be a decimal number", _MALFORMED, size
    if kind == _TE:
        if value.lower() != b"trailers":
            return name, value, _why_malformed(name), _MALFORMED, size
        kind = _PLAIN
    return name, value, b"%b: %b\r\n" % (name, value), kind, size


def _why_malformed(name: bytes) -> bytes:
    if name[:1] == b":":
        return b"a request must not have this pseudo-field"
    if name in _OF_A_CONNECTION or name == b"te":
        return b"%b is about a connection of HTTP/1.1, and must not be in a request of HTTP/2" % name
    if _NAME.fullmatch(name.lower()):
        return b"the names of fields must be in lower case"
    return b"the name of a field must be a token"


def _pseudo(name: bytes, value: bytes, kind: int) -> tuple[bytes, int]:
    if kind == _MALFORMED:
        return _why_malformed(name), kind
    if kind == _METHOD and not _TOKEN.fullmatch(value):
        return b":method must be a token", _MALFORMED
    if kind == _PATH and (not _TARGET.fullmatch(value) or (value[:1] != b"/" and value != b"*")):
        return b":path must begin with a slash, and be printable ASCII without blanks", _MALFORMED
    if kind == _SCHEME and not _SCHEME_NAME.fullmatch(value):
        return b":scheme must be the name of a scheme", _MALFORMED
    if kind in (_AUTHORITY, _PROTOCOL) and not _VALUE.fullmatch(value):
        return b"a pseudo-field must not have control characters", _MALFORMED
    return value, kind


class Head:
    """A request's header section, read.

    text: as HTTP/1.1 would have it. length: bytes of content that it declares, -1 where it does not. start: the first
    five bytes of the response's HEADERS, b"" where more has to be known; block: the fields of that behind the prefix.
    echo: the first five bytes of the DATA with the text, where that is the answer, else b"". request: what
    is asked for, where it is no ordinary request, and pseudo its pseudo-fields; error: why it is answered by an error;
    malformed: likewise, and the stream is reset besides (RFC 9113 section 8.1.1). is_call: it is one of gRPC; path,
    grpc and fields: what that needs to know. trailers: the block that ends the response to a call that is only echoed.
    may_wait: it needs no stream if its content comes with it.
    """

    __slots__ = (
        "block", "content_type", "echo", "error", "fields", "grpc", "is_call", "length", "malformed", "may_wait",
        "path", "pseudo", "request", "start", "text", "trailers",
    )  # fmt: skip

    def __init__(self, text: bytes = b"", length: int = -1) -> None:
        self.text = text
        self.length = length
        self.start = self.block = self.echo = self.content_type = b""
        self.request: Request | None = None
        self.pseudo: list[tuple[bytes, bytes]] = []
        self.error: HttpError | None = None
        self.malformed = self.is_call = self.may_wait = False
        self.path = self.trailers = b""
        self.grpc: list[tuple[bytes, bytes]] = []
        self.fields: list[Field] = []


class Http2Reader:
    """Reads blocks for connections that are answered alike. prefix_size: bytes of the fields of every response.

    A block is remembered where it leaves the table as it is, or comes first on its connection: else its client says
    something new each time.
    """

    __slots__ = (
        "_authority", "_decoder", "_fields", "_http1", "_most", "_remembered", "_tables", "_types", "prefix_size",
    )  # fmt: skip

    def __init__(self, http1: RequestReader, max_header: int, prefix_size: int) -> None:
        """http1: knows what requests are answered with. max_header: bytes of a header section at most."""
        self._http1 = http1
        self._most = max_header
        self.prefix_size = prefix_size
        self._decoder = Decoder(make_field, _lines)
        self._authority = b""
        self._fields: dict[bytes, Fields] = {}
        self._types: dict[bytes, bytes] = {}
        self._tables: list[Table] = []
        self._remembered = 0

    @property
    def root(self) -> Table:
        """The table that every connection begins with."""
        return self._decoder.root

    def read(self, block: bytes, table: Table, *, ends: bool) -> tuple[Head, Table]:
        """What a block means after a table, and the table after it; ends: it is all of the request.

        Raises HpackError or TooMuchError: the table is lost.
        """
        fields, following = self._decoder.decode(block, table, _SPREE * self._most, _SPREE * MAX_FIELDS)
        head = self._read(fields, ends=ends)
        if (
            head.start
            and len(block) <= _BLOCK_SIZE
            and len(head.text) <= _TEXT_SIZE
            and (following is table or table is self._decoder.root)
        ):
            self._remember(block, table, (head, following), ends=ends)
        return head, following

    def read_trailers(self, block: bytes, table: Table) -> tuple[bytes | None, Table]:
        """The block of the fields behind a request's content, as it is sent behind an echo, and the table after it.

        None: they are malformed, or more than a header section may have: what goes back in frames of HEADERS is held up
        by no window. Raises HpackError or TooMuchError.
        """
        fields, following = self._decoder.decode(block, table, _SPREE * self._most, _SPREE * MAX_FIELDS)
        if any(kind >= _METHOD for _, _, _, kind, _ in fields):
            return None, following
        if len(fields) > MAX_FIELDS or sum(len(line) for _, _, line, *_ in fields) > self._most:
            return None, following
        # RFC 9110 section 6.5.1: what says where a message goes, how long it is and what it is must not be behind it
        kept = [hpack.literal(name, value) for name, value, _, kind, _ in fields if kind in _MAY_TRAIL]
        return b"".join(kept), following

    def _remember(self, block: bytes, table: Table, meaning: tuple[Head, Table], *, ends: bool) -> None:
        if self._remembered >= _MEMORIES:
            for each in self._tables:
                each.heads = each.whole = hpack.NOTHING
            self._tables.clear()
            self._remembered = 0
        if table.heads is hpack.NOTHING:
            table.heads, table.whole = {}, {}
            self._tables.append(table)
        (table.whole if ends else table.heads)[block] = meaning
        self._remembered += 1

    def _read(self, fields: list[Field], *, ends: bool) -> Head:  # noqa: PLR0912, PLR0915 - a call takes as long as a field
        method = scheme = path = protocol = authority = host = None
        length, first = -1, 0
        for name, value, line, kind, _ in fields:
            if kind == _METHOD and method is None:
                method = value
            elif kind == _PATH and path is None:
                path = value
            elif kind == _SCHEME and scheme is None:
                scheme = value
            elif kind == _AUTHORITY and authority is None:
                authority = value
            elif kind == _PROTOCOL and protocol is None:
                protocol = value
            elif kind < _METHOD:
                break
            else:
                why = line.decode("latin-1") if kind == _MALFORMED else f"{name.decode()} must not be repeated"
                return _malformed(why)
            first += 1
        others = fields[first:] if first else fields
        lines = [each[2] for each in others]
        decide: list[bytes] = []
        grpc: list[tuple[bytes, bytes]] = []
        for name, value, line, kind, _ in [each for each in others if each[3]]:  # not _PLAIN: there are few
            if kind == _DECIDES:
                decide.append(line)
            elif kind == _GRPC:
                grpc.append((name, value))
            elif kind == _LENGTH and length < 0:
                length = int(value)
            elif kind == _HOST and host is None:
                host = value
                if authority is not None:  # HTTP/1.1 has it once
                    lines.remove(line)
            elif kind == _MALFORMED:
                return _malformed(line.decode("latin-1"))
            else:
                return _malformed(
                    "pseudo-fields must come before all others, and a field must not be repeated that"
                    " says where the request goes or how long it is"
                )
        if method is None:
            return _malformed("a request must have :method")
        if method == b"CONNECT" and protocol is None:
            if scheme is not None or path is not None or not authority:
                return _malformed("CONNECT must have :authority, and neither :scheme nor :path (RFC 9113 section 8.5)")
            path = authority
        elif scheme is None or path is None:
            return _malformed("a request must have :scheme and :path")
        if authority is None:
            shown = b"%b %b HTTP/2\r\n" % (method, path)
        else:
            shown = b"%b %b HTTP/2\r\nhost: %b\r\n" % (method, path, authority)
        head = Head(b"%b%b\r\n" % (shown, b"".join(lines)), length)
        if ends and length > 0:
            return _malformed("content-length must be the length of the content", head)
        try:
            found = self._interpret(
                head, method, path, authority, host,
                deciding=b"".join(decide), protocol=protocol, fields=fields, ends=ends,
            )  # fmt: skip
            is_probe = head.request is not None and head.request.probe
            if method == b"POST" and not is_probe and _GRPC_TYPE.match(found.content_type):
                self._interpret_grpc(head, path, found, grpc, fields)
        except HttpError as error:
            head.error = error
            head.start, head.echo, head.request = b"", b"", None
        return head

    def _interpret(
        self, head: Head, method: bytes, path: bytes, authority: bytes | None, host: bytes | None, *, deciding: bytes,
        protocol: bytes | None, fields: list[Field], ends: bool,
    ) -> Fields:  # fmt: skip
        """Decide about the answer. Raises HttpError."""
        text = head.text
        if len(text) > self._most or len(fields) > MAX_FIELDS:
            raise HttpError(431, f"the header section has more than {self._most} bytes, or {MAX_FIELDS} field lines")
        found = self._fields.get(deciding)
        if found is None:
            found = self._read_fields(deciding)
        if authority is None:
            if host is None:
                raise HttpError(400, "a request must have :authority or a Host field")
            authority = host
        elif host is not None and host.lower() != authority.lower():
            raise HttpError(400, "the Host field must say what :authority does")
        if authority != self._authority:  # a client's is always the same
            check_host(authority, ":authority")
            self._authority = authority
        declared = not ends or head.length >= 0
        reader = self._http1
        if (
            method in _ORDINARY
            and protocol is None
            and not found.expectations
            and not (found.json and not declared)
            and reader.is_plain(path)
            and len(text) <= (_TEXT_SIZE if declared else http2_frames.MAX_SIZE)  # what waits is accounted for
            and len(found.content_type) <= REMEMBERED_SIZE  # so that the response's fields are in one frame
            and not (0 < reader.max_body < head.length)
        ):
            self._answer_ordinary(head, found, declared=declared)
        else:
            head.request = reader.read_http2(
                text, method, path, found, head.length, declared=declared, protocol=protocol
            )
            head.pseudo = [field[:2] for field in fields if field[3] >= _METHOD]
        return found

    def _interpret_grpc(
        self, head: Head, path: bytes, found: Fields, grpc: list[tuple[bytes, bytes]], fields: list[Field]
    ) -> None:
        """A call of gRPC: its response has trailers. Raises HttpError."""
        coding = b"".join(hpack.literal(name, value) for name, value in grpc if name == b"grpc-encoding")
        block = self._type_of(found.content_type) + coding
        size = self.prefix_size + len(block)
        if size > http2_frames.MAX_SIZE:
            raise HttpError(431, "content-type and grpc-encoding must not be longer than a frame")
        head.block = block
        head.echo, head.request = b"", None
        head.path, head.grpc, head.fields = path, grpc, fields
        head.start = http2_frames.begin(http2_frames.HEADERS, http2_frames.END_HEADERS, 0, size)[:5]
        head.is_call = True
        own = path in grpc_messages.OWN or any(name == b"x-echo" for name, _ in grpc)
        head.may_wait = not own and head.length < 0 and not self._http1.max_body
        head.trailers = GRPC_OK if head.may_wait else b""

    def _read_fields(self, deciding: bytes) -> Fields:
        lines = [b"\r\n" + each for each in deciding.split(b"\r\n") if each]
        found = Fields([b"\r\nhost: x", *lines], b"".join(lines) + b"\r\n\r\n")
        if len(deciding) <= REMEMBERED_SIZE:
            if len(self._fields) >= REMEMBERED:
                self._fields.clear()
            self._fields[deciding] = found
        return found

    def _answer_ordinary(self, head: Head, found: Fields, *, declared: bool) -> None:
        if declared:
            head.content_type = found.content_type
            head.block = self._type_of(found.content_type)
            length = head.length
        else:
            head.block = self._type_of(b"text/plain")
            length = len(head.text)
            head.echo = http2_frames.begin(http2_frames.DATA, http2_frames.END_STREAM, 0, length)[:5]
        if length >= 0:
            digits = b"%d" % length
            head.block += b"%b%c%b" % (_CONTENT_LENGTH, len(digits), digits)
        head.may_wait = declared
        size = self.prefix_size + len(head.block)
        head.start = http2_frames.begin(http2_frames.HEADERS, http2_frames.END_HEADERS, 0, size)[:5]

    def _type_of(self, content_type: bytes) -> bytes:
        """The block of what a response says of its content, but for its length."""
        block = self._types.get(content_type)
        if block is None:
            said = b"content-type: %b\r\nx-content-type-options: nosniff\r\n%b" % (content_type, self._http1.extra)
            block = hpack.lines(said)
            if len(content_type) <= REMEMBERED_SIZE:
                if len(self._types) >= REMEMBERED:
                    self._types.clear()
                self._types[content_type] = block
        return block


GRPC_OK = hpack.literal(b"grpc-status", b"0")
"""How a call ends that is only echoed."""
_CONTENT_LENGTH = hpack.literal(b"content-length", b"")[:-1]
"""The field's name; its value follows as a string."""


def _malformed(why: str, head: Head | None = None) -> Head:
    """RFC 9113 section 8.1.1."""
    head = head or Head()
    head.error = HttpError(400, why)
    head.malformed = True
    return head
