"""What is read of an ordinary request: where its header section ends, and the lines that decide about the answer.

An ordinary request is what nearly all are: whole, in one read of its own, over HTTP/1.1, with a usual method, a path
that is none of a page's, and no field that changes how it is read. scan_in_python() is the reference, of llhttp and two
regular expressions. Where a compiler was at hand when the server was installed, `ordinary.c` does the same for a tenth
of the instructions.
"""

import re
from collections.abc import Callable

import httptools

from echoserver.config import compiled
from echoserver.wire.request import MAX_FIELDS

_FEW_LINES = 4 * MAX_FIELDS  # bytes that can't have more lines than are allowed

_BEGINNING = re.compile(
    rb"(?:GET|POST|PUT|PATCH|DELETE) /(?!healthz|readyz|metrics|\.echo)[!->@-~]*(?:\?([!-~]*))? HTTP/1\.1\r\n"
    rb"([Hh]ost: [\-.0-9A-Za-z]+(?::[0-9]+)?\r\n)?"
)
"""A request line, and a Host that needs no closer look. Groups: the query, the Host."""

_LINES_THAT_DECIDE = re.compile(
    rb"\n(?=[HhCcTtEeUuAa])(?i:content-length:|(?:host|con(?:tent-(?:type|encoding|language)|nection)"
    rb"|transfer-encoding|expect|upgrade|accept):[^\r]*)"
)
"""Behind the beginning. Of Content-Length the value is left out: llhttp finds as much content as it says."""

_LINE_END = b"\r\n"
_BEGINNING_AND_END = (None, None)

Scanned = tuple[bytes, int, bytes | None]
"""What decides about the answer: the lines, joined, each behind an LF, and an LF for a Host that needs no closer look;
the size of the header section in bytes; the query, if there is one."""


class _Events:
    """What llhttp tells of a request: to methods of lists, for they are no Python functions."""

    on_url = on_header = on_headers_complete = on_chunk_header = on_chunk_complete = None

    def __init__(self) -> None:
        self.to_come = [*_BEGINNING_AND_END]  # where there is a second beginning, pop() raises an error
        self.content: list[bytes] = []
        self.on_message_begin = self.on_message_complete = self.to_come.pop
        self.on_body = self.content.append


class _Parser:
    """llhttp and what it has told; made anew after what was no ordinary request."""

    __slots__ = ("events", "feed")

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.events = _Events()
        self.feed = httptools.HttpRequestParser(self.events).feed_data


_parser = _Parser()


def lines_that_decide(head: bytes) -> bytes | None:
    """The same of the header section of a request that came in another way, if it could have been ordinary."""
    line = _BEGINNING.match(head)
    return None if line is None else _lines_behind(line, head, len(head))


def _lines_behind(line: re.Match[bytes], data: bytes, end: int) -> bytes:
    lines = _LINES_THAT_DECIDE.findall(data, line.end() - 1, end)
    if line[2] is not None:
        lines.append(b"\n")  # for the Host; each other line begins with it, and goes on
    return b"".join(lines)


def scan_in_python(data: bytes) -> Scanned | None:
    """Read data, if that is an ordinary request with its content, and nothing else; None: it may be something else."""
    line = _BEGINNING.match(data)
    if line is None:
        return None
    events = _parser.events
    try:
        _parser.feed(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        _parser.renew()
        return None
    content = events.content.pop() if events.content else b""
    end = len(data) - len(content)
    # llhttp skips CR and LF behind a request
    if content:
        more = data[-1] in _LINE_END and data.find(b"\r\n\r\n") + 4 != end
    else:
        more = data[-5] in _LINE_END or not data.endswith(b"\r\n\r\n")
    if more or events.to_come or events.content or (end > _FEW_LINES and data.count(b"\n", 0, end) > MAX_FIELDS + 2):
        _parser.renew()
        return None
    lines = _lines_behind(line, data, end)
    if b"close" in data[:end].lower():  # llhttp takes nothing after a request that is its connection's last
        _parser.renew()
    else:
        events.to_come += _BEGINNING_AND_END
    return lines, end, line[1]


scan_in_c: Callable[[bytes], Scanned | None] | None = compiled.functions.scan if compiled.functions else None
"""scan() of `ordinary.c`, where that was compiled."""
scan = scan_in_c or scan_in_python
