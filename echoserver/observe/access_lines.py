"""What happened in, lines of an access log out: "combined" and "basic" as nginx writes them, or JSON.

A line is ASCII and at most MAX_LINE bytes, whatever the client has sent: a value that is longer than it may be ends in
"...", and never within an escape.
"""

import functools
import json
import re
import time
from collections.abc import Callable, Sized
from typing import NamedTuple, TypeVar

from echoserver.wire.request import REMEMBERED_SIZE, TOKEN

MAX_LINE = 4096
"""Bytes of a line at most, with its newline: PIPE_BUF of Linux, which a pipe takes whole or not at all (pipe(7))."""

# the longest that a value may be once it is escaped; what is left is for the rest of a line
MAX_HOST = 64  # an IPv6 address and an interface's name
MAX_METHOD = 32
MAX_TARGET = 2048  # also for a request line that could not be read
MAX_REFERER = 1024
MAX_AGENT = 512

_REMEMBERED = 256  # heads, hosts and seconds whose texts are remembered, each

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # in every locale
_MILLISECONDS = [f"{number:03d}" for number in range(1000)]

_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb")(?: (.*?)(?: (HTTP/[0-9](?:\.[0-9])?))?)?", re.DOTALL)
_FIELD = re.compile(rb"\n(?:(referer)|user-agent):[ \t]*([^\r\n]*)", re.IGNORECASE)
_NOT_IN_TEXT = re.compile(r"[^ !#-\[\]-~]")
_quoted = json.JSONEncoder().encode  # three times as fast as json.dumps()
_WHOLE = re.compile(r"((?:[^\\]|\\x..|\\u....|\\[^xu])*).*")  # of characters and escapes, in text and in JSON

Entry = tuple[tuple[str, int], str, bytes | None, int, int, int, float, float]
"""What is logged of a request, or of a connection.

client: host and port; a unix socket's are "unix:" and 0, and an unknown host is "-". protocol: as the listener's option
is called, or websocket. head: the header section as it was received, any bytes where it couldn't be read; None for a
connection. status. received, sent: bytes of content. when: the beginning, in seconds since the epoch. duration:
seconds, a finite number.
"""

_Key = TypeVar("_Key", bound=Sized)
_Value = TypeVar("_Value")


class _Remembered(dict[_Key, _Value]):
    """What was made of short keys: at most _REMEMBERED of them, since clients repeat themselves."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[_Key], _Value]) -> None:
        self._make: Callable[[_Key], _Value] = make

    def __missing__(self, key: _Key) -> _Value:
        value = self._make(key)
        if len(key) <= REMEMBERED_SIZE:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[key] = value
        return value


class _Head(NamedTuple):
    """What of a header section is logged; None for what it doesn't say, or what can't be told."""

    line: bytes
    method: bytes | None
    target: bytes | None
    version: bytes | None
    referer: bytes | None
    agent: bytes | None


def _read(head: bytes) -> _Head:
    """Any bytes will do: of a request line that is none, as much is read as looks like one."""
    line = head.partition(b"\n")[0].removesuffix(b"\r")
    found = _REQUEST_LINE.fullmatch(line)
    method, target, version = found.groups() if found else (None, None, None)
    referer = agent = None  # of those that are sent more than once the first
    for is_referer, value in _FIELD.findall(head):
        if is_referer and referer is None:
            referer = value.rstrip(b" \t")
        elif not is_referer and agent is None:
            agent = value.rstrip(b" \t")
    return _Head(line, method, target or None, version, referer, agent)


def _cut(escaped: str, most: int) -> str:
    return escaped if len(escaped) <= most else _WHOLE.sub(r"\1", escaped[: most - 3], count=1) + "..."


def _text(value: bytes | None, most: int) -> str:
    r"""Escaped as nginx does (log_format, escape=default): \xHH for what isn't printable ASCII, for " and for \."""
    if value is None:
        return "-"
    escaped = _NOT_IN_TEXT.sub(_escape, value[: most + 1].decode("latin-1"))
    return _cut(escaped, most)


def _escape(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]):02X}"


def _json(value: bytes | None, most: int) -> str:
    """A string in JSON, of a character a byte (latin-1), or null."""
    if value is None:
        return "null"
    return f'"{_cut(_quoted(value[: most + 1].decode("latin-1"))[1:-1], most)}"'


def _host(host: str) -> bytes:
    return host.encode("utf-8", "surrogatepass")


@functools.lru_cache(_REMEMBERED)
def _text_time(second: int) -> str:
    year, month, day, hour, minute, seconds, *_ = time.gmtime(second)
    return f"{day:02d}/{_MONTHS[month - 1]}/{year:04d}:{hour:02d}:{minute:02d}:{seconds:02d} +0000"


@functools.lru_cache(_REMEMBERED)
def _json_time(second: int) -> str:
    """ISO 8601, up to the second and without the zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


class Text:
    r"""nginx's "combined" for requests; for connections "basic", of its documentation on ngx_stream_log_module.

    HOST - - [25/Nov/2026:13:04:05 +0000] "POST /x HTTP/1.1" 200 SENT "REFERER" "AGENT"
    HOST [25/Nov/2026:13:04:05 +0000] TCP 200 SENT RECEIVED SECONDS
    """

    __slots__ = ("_heads", "_hosts")

    def __init__(self) -> None:
        self._hosts = _Remembered[str, str](lambda host: _text(_host(host), MAX_HOST))
        self._heads = _Remembered[bytes, tuple[str, str]](self._head)

    def lines(self, entries: list[Entry]) -> str:
        """A line for each entry, and a newline after each."""
        lines: list[str] = []
        append, hosts, heads = lines.append, self._hosts, self._heads
        second, date = -1, ""
        for (host, _), protocol, head, status, received, sent, when, duration in entries:
            if not second <= when < second + 1:
                second = int(when)
                date = _text_time(second)
            if head is None:
                session = f"{status} {sent} {received} {duration:.3f}"
                append(f"{hosts[host]} [{date}] {protocol.upper()} {session}\n")
            else:
                line, agent = heads[head]
                append(f"{hosts[host]} - - [{date}{line}{status} {sent}{agent}")
        return "".join(lines)

    @staticmethod
    def _head(head: bytes) -> tuple[str, str]:
        """What comes before the status, and what comes after the bytes that were sent."""
        read = _read(head)
        if read.method is None:
            line = _text(read.line or None, MAX_TARGET)
        else:  # in three pieces, so that one that was cut still ends in the version
            line = _text(read.method, MAX_METHOD)
            if read.target is not None:
                line += " " + _text(read.target, MAX_TARGET)
            if read.version is not None:
                line += " " + read.version.decode()
        return f'] "{line}" ', f' "{_text(read.referer, MAX_REFERER)}" "{_text(read.agent, MAX_AGENT)}"\n'


class Json:
    """One object a line, its keys in an order that doesn't change; null for what is missing.

    Bytes of the request become the characters of the same number (latin-1), so that every one of them is kept.
    """

    __slots__ = ("_heads", "_hosts", "_worker")

    def __init__(self, worker: int) -> None:
        self._worker = f',"worker":{worker},'
        self._hosts = _Remembered[str, str](lambda host: f'Z","client":{_json(_host(host), MAX_HOST)},"port":')
        self._heads = _Remembered[bytes, tuple[str, str]](self._head)

    def lines(self, entries: list[Entry]) -> str:
        """A line for each entry, and a newline after each."""
        lines: list[str] = []
        append, hosts, heads, worker = lines.append, self._hosts, self._heads, self._worker
        second, date, milliseconds = -1, "", _MILLISECONDS
        for (host, port), protocol, head, status, received, sent, when, duration in entries:
            if not second <= when < second + 1:
                second = int(when)
                date = f'{{"time":"{_json_time(second)}.'
            if head is None:
                before, after = f'"{worker}"status":', ',"duration":'
            else:
                before, after = heads[head]
            append(
                f'{date}{milliseconds[int((when - second) * 1000)]}{hosts[host]}{port or "null"},"protocol":"{protocol}'
                f'{before}{status},"bytes_in":{received},"bytes_out":{sent}{after}{duration:.6f}}}\n'
            )
        return "".join(lines)

    def _head(self, head: bytes) -> tuple[str, str]:
        """What comes between the protocol and the status, and between the bytes that were sent and the duration."""
        read = _read(head)
        return (
            f'"{self._worker}"method":{_json(read.method, MAX_METHOD)},"target":{_json(read.target, MAX_TARGET)},'
            f'"version":{_json(read.version, MAX_METHOD)},"status":',
            f',"referer":{_json(read.referer, MAX_REFERER)},"user_agent":{_json(read.agent, MAX_AGENT)},"duration":',
        )
