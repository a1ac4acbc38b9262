"""Chunked content (RFC 9112 section 7.1), decoded as it comes; extensions and trailers are checked and dropped.

llhttp decodes it too, but httptools (0.9.0) does not tell where in the data the message ended, and what follows is the
next request. Stricter than the RFC asks in one thing: a line ends in CRLF and nothing else.
"""

import re

from echoserver.wire.response import HttpError

# no group is possessive, only sets are: CPython before 3.11.5 goes on behind what such a group has tried in vain
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE_LINE = re.compile(
    rb"0*+([1-9A-Fa-f][0-9A-Fa-f]{0,14}|(?<=0))(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?)*"
    % (_TOKEN, _TOKEN, _QUOTED)
)
_ITS_SIZE = re.compile(rb"[0-9A-Fa-f]+[ \t]*;")
_FIRST_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_END = b"\r\n0\r\n\r\n"
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*")

_MAX_LINE = 4096  # bytes of a size line, and of all trailer lines together

_MOST_CHUNKS = 256  # that are decoded at a time: chunks of one byte take a hundred times as long as their bytes

_SIZE, _CONTENT, _CONTENT_END, _TRAILER = range(4)


def one_chunk(data: bytes, position: int) -> tuple[bytes, int] | None:
    """The content, and where the message ended in data, of what small content is almost always: one chunk, all of it
    here, without extensions and trailers. None for anything else, which is for a ChunkedDecoder."""
    line = _FIRST_LINE.match(data, position)
    if line is None:
        return None
    start = line.end()
    end = start + int(line[1], 16)
    return (data[start:end], end + len(_END)) if end > start and data.startswith(_END, end) else None


class ChunkedDecoder:
    """One message's content, as it comes. complete: all of it has."""

    __slots__ = ("_left", "_rest", "_state", "_trailer_left", "complete")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0  # bytes of the chunk that are still to come
        self._rest = b""  # the beginning of a line that is not complete
        self._trailer_left = _MAX_LINE
        self.complete = False

    def feed(self, data: bytes, position: int = 0) -> tuple[bytes, int]:
        """The content that data holds from position on, and how far it was read.

        That is where the message ends where it is complete; else the end of data, or after a few hundred chunks the
        beginning of the next one: there is more to do than should be done at a time. Raises HttpError (400) where it is
        not chunked content; nothing can be read from this connection after that.
        """
        if self._rest:
            before = len(self._rest)
            content, end = self._decode(self._rest + data[position:], 0)
            return content, end - before + position
        return self._decode(data, position)

    def _decode(self, data: bytes, position: int) -> tuple[bytes, int]:
        self._rest = b""
        pieces: list[bytes] = []
        size = len(data)
        while position < size and len(pieces) < _MOST_CHUNKS:
            if self._state == _CONTENT:
                stop = min(position + self._left, size)
                pieces.append(data[position:stop])
                self._left -= stop - position
                position = stop
                if not self._left:
                    self._state = _CONTENT_END
                continue
            if self._state == _CONTENT_END and not b"\r\n".startswith(data[position : position + 2]):
                raise HttpError(400, "a chunk is longer than its size says")
            limit = self._line_limit()
            end = data.find(b"\r\n", position, position + limit + 2)
            if end < 0:
                self._keep(data[position:], limit)
                position = size
                break
            line, position = data[position:end], end + 2
            if self._state == _SIZE:
                self._begin_chunk(line)
            elif self._state == _CONTENT_END:
                self._state = _SIZE
            elif not line:
                self.complete = True
                break
            else:
                self._drop_trailer(line)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), position

    def _line_limit(self) -> int:
        """How long the line that comes next may be, without its CRLF."""
        return max(0, self._trailer_left - 2) if self._state == _TRAILER else _MAX_LINE

    def _keep(self, beginning: bytes, limit: int) -> None:
        """Keep the beginning of a line for the next data, refused as soon as it can't become a line."""
        if len(beginning) - beginning.endswith(b"\r") > limit:
            if self._state == _TRAILER:
                raise HttpError(431, f"the trailer section is longer than {_MAX_LINE} bytes")
            raise HttpError(400, f"a line of chunked content is longer than {_MAX_LINE} bytes")
        if b"\n" in beginning:
            raise HttpError(400, "a line of chunked content does not end in CRLF")
        self._rest = beginning

    def _begin_chunk(self, line: bytes) -> None:
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            if _ITS_SIZE.match(line):
                raise HttpError(400, "a chunk extension is neither ;name nor ;name=value (RFC 9112 section 7.1.1)")
            raise HttpError(400, "a chunk must begin with its size in hexadecimal digits")
        self._left = int(found[1] or b"0", 16)
        self._state = _CONTENT if self._left else _TRAILER

    def _drop_trailer(self, line: bytes) -> None:
        self._trailer_left -= len(line) + 2
        if not _TRAILER_LINE.fullmatch(line):
            raise HttpError(400, "a line of the trailer section must be a field line, Name: value")
